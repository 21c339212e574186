use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::syntax::{self, Reading};
use super::*;

const UNICODE: Case = Case { ignored: true, unicode: true };
const BYTES: Case = Case { ignored: true, unicode: false };

fn range(start: char, end: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(start, end)])
}

/// A range with all its others, as `regex-syntax` has them.
fn theirs(start: char, end: char) -> ClassUnicode {
    let mut class = range(start, end);
    class.try_case_fold_simple().unwrap();
    class
}

fn ours(case: Case, start: char, end: char) -> ClassUnicode {
    let mut class = case.others(start, end);
    assert!(class.iter().all(|other| end < other.start() || other.end() < start));
    class.union(&range(start, end));
    class
}

/// Each character that has others, and the next of them: the last one's is the first.
fn next_ones() -> Vec<(u32, u32)> {
    let next = |c: char| {
        let class = theirs(c, c);
        let all = || class.iter().flat_map(|range| range.start()..=range.end());
        (all().count() > 1).then(|| all().find(|other| *other > c).or_else(|| all().next()))?
    };
    ('\0'..=char::MAX).filter_map(|c| Some((c.into(), next(c)?.into()))).collect()
}

/// The table's entries, each as long as it can be.
fn entries() -> Vec<(u32, u32, i32)> {
    let all = next_ones();
    let mut rest = all.as_slice();
    let mut entries = Vec::new();
    while let Some((first, to)) = rest.first() {
        let distance = to.cast_signed() - first.cast_signed();
        let neighbours = (*first..).zip(rest).take_while(|(c, (from, _))| c == from).map(|(_, entry)| entry);
        let moved = |(from, to): &&(u32, u32)| from.checked_add_signed(distance) == Some(*to);
        let far = neighbours.clone().take_while(moved).count();
        let paired = |(offset, (from, to)): &(usize, &(u32, u32))| {
            *to == if offset % 2 == 0 { from + 1 } else { from - 1 }
        };
        let pairs = neighbours.enumerate().take_while(paired).count() / 2 * 2;
        let (length, distance) = if pairs > far { (pairs, 0) } else { (far, distance) };
        entries.push((*first, *first + length as u32 - 1, distance));
        rest = &rest[length..];
    }
    entries
}

#[test]
fn the_table_is_that_of_unicode() {
    let mut written = String::from(
        "//! Characters that differ by case alone: the simple case folding of Unicode 16.0.0 (`CaseFolding.txt`, status C and S), as\n\
         //! `regex-syntax` 0.8 has it. Written by `the_table_is_that_of_unicode` in `tests.rs`.\n\n\
         /// Ranges of characters in order, and how far it is from each character to the next that differs from it by case alone.\n\
         /// The last one's next is the first. A distance of 0: pairs of neighbours, of which each is the other's next.\n\
         #[rustfmt::skip]\n\
         pub(super) const TABLE: &[(u32, u32, i32)] = &[\n",
    );
    for entries in entries().chunks(4) {
        let entries =
            entries.iter().map(|(first, last, distance)| format!("({first:#x}, {last:#x}, {distance}),"));
        writeln!(written, "    {}", entries.collect::<Vec<_>>().join(" ")).unwrap();
    }
    written.push_str("];\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/matchers/regex/fold/table.rs");
    if std::env::var_os("MESHFILTER_WRITE_DOCS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept == written, "{}: MESHFILTER_WRITE_DOCS=1 writes it anew", path.display());
}

#[test]
fn every_character_has_the_same_others() {
    for c in '\0'..=char::MAX {
        assert_eq!(ours(UNICODE, c, c), theirs(c, c), "{c:?}");
        let mut class = range(c, c);
        if c.is_ascii_alphabetic() {
            let [lower, upper] = [c.to_ascii_lowercase(), c.to_ascii_uppercase()];
            class.union(&range(lower, lower));
            class.union(&range(upper, upper));
        }
        assert_eq!(ours(BYTES, c, c), class, "{c:?}");
    }
}

#[test]
fn every_range_has_the_same_others() {
    let edges: Vec<char> = TABLE
        .iter()
        .flat_map(|(first, last, _)| [first - 1, *first, first + 1, last - 1, *last, last + 1])
        .filter_map(char::from_u32)
        .collect();
    let check = |start: char, end: char| {
        let (start, end) = (start.min(end), start.max(end));
        assert_eq!(ours(UNICODE, start, end), theirs(start, end), "{start:?}-{end:?}");
        let case = BYTES.others(start, end);
        assert!(case.iter().all(|other| other.end().is_ascii_alphabetic()), "{start:?}-{end:?}");
        // However wide a range is.
        let pieces = UNICODE.others(start, end).ranges().len();
        assert!(pieces <= 100, "{start:?}-{end:?}: {pieces}");
    };
    for near in edges.windows(8) {
        near.iter().for_each(|end| check(near[0], *end));
    }
    for (start, end) in [('\0', char::MAX), ('\0', '\u{ffff}'), ('\u{d7ff}', '\u{e000}'), ('a', char::MAX)] {
        check(start, end);
    }
    let pairs = (select(edges.clone()), select(edges));
    let random = |(start, end)| {
        check(start, end);
        Ok(())
    };
    runner(100).run(&pairs, random).unwrap();
    for start in '\0'..='\u{ff}' {
        for end in start..='\u{ff}' {
            let mut class = ours(BYTES, start, end);
            class.difference(&range('\u{80}', '\u{ff}'));
            let all = ('\0'..='\x7f').filter(|c| (start..=end).any(|one| one.eq_ignore_ascii_case(c)));
            assert_eq!(
                class,
                ClassUnicode::new(all.map(|c| ClassUnicodeRange::new(c, c))),
                "{start:?}-{end:?}"
            );
        }
    }
}

/// The same expressions in every run.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Reads an expression in every way, and says in how many it has a meaning: each time that which `regex-syntax` gives it.
fn readings(expression: &str) -> usize {
    let [no, yes] = [false, true];
    let all = [[no, no, no], [no, no, yes], [no, yes, no], [no, yes, yes], [yes, no, no], [yes, no, yes]];
    let all = all.into_iter().chain([[yes, yes, no], [yes, yes, yes]]);
    let meant = all.filter(|[unicode, ignore_case, unescape]| {
        let (unicode, ignore_case, unescape) = (*unicode, *ignore_case, *unescape);
        let reading = Reading { unicode, ignore_case, dot_matches_new_line: false, unescape };
        let theirs = syntax::read(expression, reading).and_then(|ast| {
            let mut translator = syntax::translator(reading).case_insensitive(ignore_case).build();
            translator.translate(expression, &ast).map_err(|error| error.kind().to_string())
        });
        assert_eq!(syntax::parse(expression, reading), theirs, "{expression}");
        theirs.is_ok()
    });
    meant.count()
}

/// Here `regex-syntax` has its table, too: in the module it has not, and is not asked for it.
#[test]
fn nothing_is_left_to_do() {
    let reading = Reading { unicode: true, ignore_case: true, dot_matches_new_line: false, unescape: false };
    for expression in ["a(?i)b", "(?i:a)", "(?-i)a", "(?i-u)", "(?:a(?is:b)|(?u-i)[c])*"] {
        let mut ast = syntax::read(expression, reading).unwrap();
        fold(&mut ast, &mut Case { ignored: true, unicode: true });
        assert!(!format!("{ast:?}").contains("CaseInsensitive"), "{expression}: {ast:?}");
    }
}

#[test]
fn expressions_mean_the_same() {
    for expression in [
        "k",
        "[k]",
        "[^k]",
        "(?i)K\u{212a}k",
        "(?i)[\u{212a}]",
        "(?i)s\u{17f}S|[\u{17f}]",
        "(?i)ßẞ[ß][^ẞ]",
        "(?i)Σσς[Σ][σ][^ς]",
        "(?i)ꭰᎠ[ꭰ-ꮏ][Ꭰ-Ᏽ]ᏸ",
        "(?i)İıIi[İ][ı][I]",
        "(?i)θΘϑϴ[θ]ιͅΙι[ι]ǆǅǄ[ǅ]",
        "a(?i)b(?-i)c",
        "(?i:a)b",
        "(?i)a(?-i:b)c",
        "(a(?i)b)c",
        "(?:a(?i)b|c)d",
        "a|(?i)b|c",
        "(?i)(?<name>a)(b)",
        "(?i)a*b+?c{2,3}(?:d(?-i)e)*f",
        "(?-i)a",
        "(?i-u)k[k]é",
        "(?i-u)\\xe9\\xFF[\\xFF]\\x4b[\\x4b-\\xFF]",
        "(?i)\\xe9\\xFF[\\xFF]\\x4b[\\x4b-\\xFF]",
        "(?i)(?-u:k)k",
        "(?-u)(?i)[^k]",
        "(?i-u)[é]",
        "(?i-u)[a-é]",
        "(?i-u:[\\x{e9}])",
        "(?iu-x)k",
        "(?ix) a b # c",
        "(?isU)a.*b",
        "(?i)[a-z&&[^k]]",
        "(?i)[a-z--[K]]",
        "(?i)[a-z~~[F-K]]",
        "(?i)[^a-z&&[k-m]]",
        "(?i)[^[^k]]",
        "(?i)[a[b[^c]]]",
        "(?i)[a-c[x&&y]k-m]",
        "(?i)[\0-\u{10ffff}]",
        "(?i)[^\0-\u{10ffff}]",
        "(?i)[&&a]",
        "(?i)[Ā-ſǀ-ɏ]",
        "(?i)[\u{1}-\u{1e90f}]",
        r"(?i)\w\d\s\W\D\S[\w][^\w][\W&&k]",
        r"(?i)\bk\B\x6b\153[\x6b\u{6B}]\.\n",
        "(?i)/%4b%4B/%6B[%4b]",
        "(?i).^$k",
        "(?i)",
        "((?i))",
        "(?i)()|",
        "(?i)(?i-i)",
        "(?i)*",
        "(?i)[z-a]",
        r"(?i)\pL",
        r"(?i)[\p{Greek}]",
        r"(?-u)(?i)\pL",
    ] {
        readings(expression);
    }
    for name in ASCII {
        for flags in ["", "i", "-u", "i-u"] {
            let all =
                format!("(?{flags})[[:{name}:]][[:^{name}:]][^[:{name}:]x][^[:^{name}:]k][[:{name}:]&&[k]]");
            assert_eq!(readings(&all.replace("(?)", "")), 8, "{all}");
        }
    }
}

const ASCII: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

fn letter() -> impl Strategy<Value = String> {
    let plain = "aAkKsSzZ019_ \u{212a}\u{17f}ßẞΣσςθΘϑϴꭰᎠᏸᏰİıéÉÿŸǅǆǄ%@[`{".chars();
    let plain: Vec<String> = plain.map(|c| regex_syntax::escape(&c.to_string())).collect();
    let escaped = select(vec![r"\x4b", r"\xDF", r"\xff", r"\x{6b}", r"\u212A", r"\163", r"\n"]);
    prop_oneof![8 => select(plain), 1 => escaped.prop_map(str::to_owned)]
}

fn class() -> impl Strategy<Value = String> {
    // Not very wide: what is walked over with `regex-syntax`'s table takes its time.
    let range = || (0..0x2_0000_u32, 0..0x300_u32).prop_map(|(start, more)| (start, start + more));
    let range = prop_oneof![
        (letter(), letter()).prop_map(|(start, end)| format!("{start}-{end}")),
        range().prop_map(|(start, end)| format!(r"\x{{{start:x}}}-\x{{{end:x}}}")),
        range().prop_map(|(start, end)| format!(
            r"\x{{{:x}}}-\x{{{end:x}}}",
            start % 0x250,
            end = end % 0x250 + 0x250
        )),
    ];
    let ascii = (select(&ASCII), select(vec!["", "^"])).prop_map(|(name, not)| format!("[:{not}{name}:]"));
    let perl = select(vec![r"\d", r"\W", r"\s", r"\w"]).prop_map(str::to_owned);
    let item = prop_oneof![4 => letter(), 3 => range, 1 => ascii, 1 => perl];
    let class = |item: BoxedStrategy<String>| {
        let items = || prop::collection::vec(item.clone(), 1..4).prop_map(|items| items.concat());
        let operation = select(vec!["&&", "--", "~~"]);
        let some = prop_oneof![
            3 => items(),
            1 => (items(), operation, items()).prop_map(|(a, operation, b)| a + operation + &b),
        ];
        (select(vec!["[", "[^"]), some).prop_map(|(start, items)| format!("{start}{items}]"))
    };
    let nested = item.boxed().prop_recursive(3, 12, 3, move |item| class(item.boxed()));
    class(nested.boxed())
}

fn expression() -> impl Strategy<Value = String> {
    let flags = || select(vec!["i", "-i", "i-u", "-u", "u", "is", "s-i", "-iu", "iu"]);
    let leaf = prop_oneof![
        6 => letter(),
        4 => class(),
        1 => select(vec![".", r"\w", r"\D", r"\b", "^", "%4B", "%6b"]).prop_map(str::to_owned),
        2 => flags().prop_map(|flags| format!("(?{flags})")),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let repeated = select(vec!["*", "+?", "{0,2}", "?"]);
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..5).prop_map(|all| all.concat()),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|all| all.join("|")),
            2 => inner.clone().prop_map(|inner| format!("({inner})")),
            2 => (flags(), inner.clone()).prop_map(|(flags, inner)| format!("(?{flags}:{inner})")),
            1 => (inner, repeated).prop_map(|(inner, repeated)| format!("(?:{inner}){repeated}")),
        ]
    })
}

#[test]
fn any_expressions_mean_the_same() {
    let meant = std::cell::Cell::new(0);
    let count = |expression: String| {
        meant.set(meant.get() + readings(&expression));
        Ok(())
    };
    runner(150).run(&expression(), count).unwrap();
    // Most of them are expressions.
    assert!(meant.get() > 600, "{}", meant.get());
}
