//! Numbers with six decimals. The standard library's way to write a `double` exactly would be 17 KB of the module.

/// So many steps make one.
const STEPS: u64 = 1_000_000;
/// A place of a number that is too long for the processor.
const PLACE: u64 = 1_000_000_000;

/// A number as C++ writes a `double` (`%f`): six decimals, of two that are as near the one whose last is even. Empty for what
/// is no number, which JSON does not have.
pub fn six_decimals(number: f64) -> String {
    if !number.is_finite() {
        return String::new();
    }
    let bits = number.to_bits();
    let (exponent, fraction) = ((bits >> 52) & 0x7ff, bits & 0xf_ffff_ffff_ffff);
    // Of a number below the smallest usual one there is no leading bit.
    let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
    let power = i32::try_from(exponent.max(1)).unwrap_or_default().saturating_sub(1075);
    let sign = if number.is_sign_negative() { "-" } else { "" };
    match u32::try_from(power) {
        Ok(power) => format!("{sign}{}.000000", whole(mantissa, power)),
        Err(_) => {
            let steps = rounded(u128::from(mantissa).saturating_mul(STEPS.into()), power.unsigned_abs());
            let (ones, rest) = (steps.checked_div(STEPS.into()), steps.checked_rem(STEPS.into()));
            format!("{sign}{}.{:06}", ones.unwrap_or_default(), rest.unwrap_or_default())
        }
    }
}

/// `number` divided by so many powers of two, and rounded.
fn rounded(number: u128, powers: u32) -> u128 {
    let Some(below) = 1u128.checked_shl(powers) else { return 0 };
    let (down, rest) = (number >> powers, number & below.wrapping_sub(1));
    let half = below >> 1;
    let up = rest > half || (rest == half && down & 1 == 1);
    down.saturating_add(up.into())
}

/// `number` multiplied by so many powers of two.
fn whole(number: u64, powers: u32) -> String {
    // Nine digits in each, the last ones first.
    let mut places = vec![number];
    carry(&mut places);
    for _ in 0..powers {
        places.iter_mut().for_each(|place| *place = place.saturating_mul(2));
        carry(&mut places);
    }
    let mut text = String::new();
    for place in places.iter().rev() {
        text += &if text.is_empty() { place.to_string() } else { format!("{place:09}") };
    }
    text
}

fn carry(places: &mut Vec<u64>) {
    let mut over = 0;
    for place in places.iter_mut() {
        let sum = place.saturating_add(over);
        (*place, over) = (sum.wrapping_rem(PLACE), sum.wrapping_div(PLACE));
    }
    if over > 0 {
        places.push(over);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn it_is_what_the_standard_library_writes(bits: u64, small in -1e7..1e7f64, halves in 0u32..1 << 24) {
            // A whole number of 128ths of a step's half lies between two decimals now and then.
            for number in [f64::from_bits(bits), small, f64::from(halves) / 128.0, f64::from(halves) / 1e7] {
                if number.is_finite() {
                    prop_assert_eq!(six_decimals(number), format!("{number:.6}"));
                }
            }
        }
    }

    #[test]
    fn the_ends_of_what_there_is_are_written() {
        for number in [
            0.0,
            -0.0,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            5e-324,
            0.5e-6,
            1.5e-6,
            9_007_199_254_740_992.0,
        ] {
            assert_eq!(six_decimals(number), format!("{number:.6}"));
        }
        assert_eq!((six_decimals(f64::NAN), six_decimals(f64::INFINITY)), (String::new(), String::new()));
    }
}
