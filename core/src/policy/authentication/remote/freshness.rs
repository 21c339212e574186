use crate::host::HeaderMap;

/// How long an answer may be kept, in seconds: `max-age` of its `Cache-Control` less its `Age` (RFC 9111, 4.2).
/// `None` where it does not say. `no-cache` and `no-store` are not looked at: issuers put them on key sets that change once a
/// month.
pub fn max_age(headers: &HeaderMap) -> Option<u64> {
    let number = |text: &str| text.trim().trim_matches('"').parse::<u64>().ok();
    let text = |value| std::str::from_utf8(value).unwrap_or_default();
    let directives = headers.values(b"cache-control").flat_map(|value| text(value).split(','));
    let max_age = directives
        .filter_map(|directive| directive.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))
        .find_map(|(_, value)| number(value))?;
    let age = headers.get(b"age").and_then(|value| number(text(value))).unwrap_or(0);
    Some(max_age.saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_less_age() {
        for (headers, expected) in [
            (vec![("cache-control", "public, max-age=300, must-revalidate")], Some(300)),
            (vec![("cache-control", "public"), ("cache-control", "Max-Age = 60")], Some(60)),
            (vec![("cache-control", "max-age=\"60\""), ("age", "20")], Some(40)),
            (vec![("cache-control", "max-age=60"), ("age", "100")], Some(0)),
            (vec![("cache-control", "max-age=60"), ("age", "x")], Some(60)),
            (vec![("cache-control", "no-cache")], None),
            (vec![("cache-control", "s-maxage=10")], None),
            (vec![("cache-control", "max-age=soon")], None),
            (vec![("cache-control", "max-age=-1")], None),
            (vec![("cache-control", "max-age=\u{e9}")], None),
            (vec![], None),
        ] {
            let map: HeaderMap = headers.iter().copied().collect();
            assert_eq!(max_age(&map), expected, "{headers:?}");
        }
    }
}
