/// Whether both are the same bytes. It compares many at a time: a module's `memcmp` compares one at a time, and a native one
/// is worth its call only where there are many.
#[inline]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    const MANY: usize = 17;
    if one.len() != other.len() {
        return false;
    }
    if cfg!(target_family = "wasm") {
        return same_bytes(one, other);
    }
    if one.len() < MANY { same_few(one, other) } else { one == other }
}

/// For two of one length, of 16 bytes at most: what is between the first and the last few of them is nothing, or in both.
#[inline(never)]
fn same_few(one: &[u8], other: &[u8]) -> bool {
    fn ends<const COUNT: usize>(bytes: &[u8]) -> Option<(&[u8; COUNT], &[u8; COUNT])> {
        bytes.first_chunk().zip(bytes.last_chunk())
    }
    if let (Some(one), Some(other)) = (ends::<8>(one), ends::<8>(other)) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (ends::<4>(one), ends::<4>(other)) {
        return one == other;
    }
    one.iter().zip(other).all(|(one, other)| one == other)
}

/// For two of one length. Where it is inlined beside a constant of fewer than eight bytes, LLVM 22 goes through all offsets
/// that there are (`foldPatternedLoads`) and does not come back.
#[inline(never)]
fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    // Long ones in large steps: a module pays for each look into its memory, and for each turn of a loop.
    let (blocks, rest) = one.as_chunks();
    let (other_blocks, other_rest) = other.as_chunks();
    blocks.iter().zip(other_blocks).all(|(one, other)| same_block(one, other)) && same_rest(rest, other_rest)
}

#[inline]
fn same_block(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let words = one.as_chunks().0.iter().zip(other.as_chunks().0);
    words.fold(0, |differs, (one, other)| differs | (u64::from_ne_bytes(*one) ^ u64::from_ne_bytes(*other)))
        == 0
}

#[inline]
fn same_rest(one: &[u8], other: &[u8]) -> bool {
    let equal = |one: &[u8; 8], other: &[u8; 8]| u64::from_ne_bytes(*one) == u64::from_ne_bytes(*other);
    match (one.last_chunk(), other.last_chunk()) {
        // The last eight overlap the others where the length is no multiple of eight.
        (Some(last), Some(other_last)) => {
            let pairs = one.as_chunks().0.iter().zip(other.as_chunks().0);
            equal(last, other_last) && pairs.into_iter().all(|(one, other)| equal(one, other))
        }
        _ => one.iter().zip(other).all(|(one, other)| one == other),
    }
}

/// Splits at the first `delimiter` of a long text, eight bytes at a look.
pub fn split_once(text: &[u8], delimiter: u8) -> Option<(&[u8], &[u8])> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let wanted = u64::from_ne_bytes([delimiter; 8]);
    // Whether one of the eight is 0.
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS != 0;
    let has_it = |word: &[u8; 8]| has_zero(u64::from_ne_bytes(*word) ^ wanted);
    let (words, _) = text.as_chunks();
    let before = words.iter().position(has_it).unwrap_or(words.len()).saturating_mul(8);
    let near = text.get(before..)?.iter().position(|byte| *byte == delimiter)?;
    let at = before.saturating_add(near);
    Some((text.get(..at)?, text.get(at.saturating_add(1)..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_wherever_the_first_delimiter_stands() {
        for length in 0..40 {
            // 0x2f and 0xae are next to it, one bit away.
            let text: Vec<u8> = (0..length).map(|at| if at % 2 == 0 { 0x2f } else { 0xae }).collect();
            assert_eq!(split_once(&text, b'.'), None, "{length}");
            for at in 0..text.len() {
                let mut text = text.clone();
                text[at] = b'.';
                *text.last_mut().unwrap() = b'.';
                assert_eq!(split_once(&text, b'.'), Some((&text[..at], &text[at + 1..])), "{length}, {at}");
            }
        }
    }

    #[test]
    fn every_byte_counts() {
        for length in 0..80 {
            let one: Vec<u8> = (0..length).collect();
            assert!(same(&one, &one.clone()), "{length}");
            assert!(!same(&one, &[one.as_slice(), &[0]].concat()), "{length}");
            for at in 0..one.len() {
                let mut other = one.clone();
                other[at] ^= 0x80;
                assert!(!same(&one, &other), "{length}, {at}");
            }
        }
    }
}
