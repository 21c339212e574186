//! RE2's syntax: that of the `regex` crate, but `\d`, `\s`, `\w` and `\b` know ASCII alone.

use regex_syntax::ast::{
    Assertion, AssertionKind, Ast, ClassBracketed, ClassPerl, ClassPerlKind, ClassSet, ClassSetItem,
    ClassSetRange, ClassSetUnion, Flag, Flags, FlagsItem, FlagsItemKind, Group, GroupKind, Literal,
    LiteralKind, parse,
};
use regex_syntax::hir::Hir;
use regex_syntax::hir::translate::TranslatorBuilder;

use super::fold::{self, Case};
use crate::matchers::path;

/// How an expression is read, besides what it says itself.
#[derive(Clone, Copy)]
pub struct Reading {
    /// Whether the value is text in UTF-8, and not mere bytes.
    pub unicode: bool,
    /// Whether case does not count.
    pub ignore_case: bool,
    /// Whether `.` is a line's end, too.
    pub dot_matches_new_line: bool,
    /// Whether `%2D` in it is `-`, as in a path of which the escapes of unreserved characters are resolved.
    pub unescape: bool,
}

/// Parses an expression.
///
/// # Errors
/// What is wrong with it.
pub fn parse(expression: &str, reading: Reading) -> Result<Hir, String> {
    let mut ast = read(expression, reading)?;
    fold::fold(&mut ast, &mut Case { ignored: reading.ignore_case, unicode: reading.unicode });
    let mut translator = translator(reading).build();
    translator.translate(expression, &ast).map_err(|error| error.kind().to_string())
}

/// An expression as it is written, but for what is put in the place of something else whatever case means.
pub(super) fn read(expression: &str, reading: Reading) -> Result<Ast, String> {
    let mut ast = parse::Parser::new().parse(expression).map_err(|error| error.kind().to_string())?;
    let mut properties = false;
    ascii(&mut ast, &mut properties);
    if properties {
        return Err(PROPERTY.to_owned());
    }
    if reading.unescape {
        unescape(&mut ast);
    }
    Ok(ast)
}

/// What gives a parsed expression its meaning, in which case counts.
pub(super) fn translator(reading: Reading) -> TranslatorBuilder {
    let mut translator = TranslatorBuilder::new();
    translator.utf8(false).unicode(reading.unicode).dot_matches_new_line(reading.dot_matches_new_line);
    translator
}

/// Their tables are more than the rest of the expressions' code.
const PROPERTY: &str = "\\p{…} is not known here: write the characters, as [a-zA-Z]";

/// Puts ASCII's meaning in the place of Unicode's, and says whether a property of Unicode's is asked for. The parser bounds how
/// deep an expression nests.
fn ascii(ast: &mut Ast, properties: &mut bool) {
    match ast {
        Ast::ClassUnicode(_) => *properties = true,
        Ast::ClassPerl(class) => *ast = Ast::class_bracketed(perl(class)),
        Ast::Assertion(assertion)
            if matches!(assertion.kind, AssertionKind::WordBoundary | AssertionKind::NotWordBoundary) =>
        {
            *ast = in_bytes(assertion);
        }
        Ast::ClassBracketed(class) => set(&mut class.kind, properties),
        Ast::Repetition(repetition) => ascii(&mut repetition.ast, properties),
        Ast::Group(group) => ascii(&mut group.ast, properties),
        Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(|ast| ascii(ast, properties)),
        Ast::Concat(concat) => concat.asts.iter_mut().for_each(|ast| ascii(ast, properties)),
        _ => {}
    }
}

/// Puts unreserved characters in the place of their escapes.
fn unescape(ast: &mut Ast) {
    match ast {
        Ast::Repetition(repetition) => unescape(&mut repetition.ast),
        Ast::Group(group) => unescape(&mut group.ast),
        Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(unescape),
        Ast::Concat(concat) => {
            let mut plain: Vec<Ast> = Vec::with_capacity(concat.asts.len());
            for mut next in std::mem::take(&mut concat.asts) {
                unescape(&mut next);
                plain.push(next);
                let start = plain.len().saturating_sub(3);
                if let Some(meant) = plain.get(start..).and_then(meaning) {
                    plain.truncate(start);
                    plain.push(Ast::literal(meant));
                }
            }
            concat.asts = plain;
        }
        _ => {}
    }
}

/// What an escape means, if it is one of an unreserved character.
fn meaning(escape: &[Ast]) -> Option<Literal> {
    let [Ast::Literal(percent), Ast::Literal(high), Ast::Literal(low)] = escape else { return None };
    let text: String = [percent.c, high.c, low.c].iter().collect();
    match &*path::unescape(text.as_bytes()) {
        [byte] => Some(Literal { span: percent.span, kind: LiteralKind::Verbatim, c: char::from(*byte) }),
        _ => None,
    }
}

fn set(class: &mut ClassSet, properties: &mut bool) {
    match class {
        ClassSet::Item(item) => self::item(item, properties),
        ClassSet::BinaryOp(operation) => {
            set(&mut operation.lhs, properties);
            set(&mut operation.rhs, properties);
        }
    }
}

fn item(item: &mut ClassSetItem, properties: &mut bool) {
    match item {
        ClassSetItem::Unicode(_) => *properties = true,
        ClassSetItem::Perl(class) => *item = ClassSetItem::Bracketed(Box::new(perl(class))),
        ClassSetItem::Bracketed(class) => set(&mut class.kind, properties),
        ClassSetItem::Union(union) => union.items.iter_mut().for_each(|item| self::item(item, properties)),
        _ => {}
    }
}

/// RE2's `\s` has no vertical tab.
fn perl(class: &ClassPerl) -> ClassBracketed {
    let span = class.span;
    let ranges: &[(char, char)] = match class.kind {
        ClassPerlKind::Digit => &[('0', '9')],
        ClassPerlKind::Space => &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
        ClassPerlKind::Word => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
    };
    let literal = |c: &char| Literal { span, kind: LiteralKind::Verbatim, c: *c };
    let range = |(start, end): &(char, char)| {
        ClassSetItem::Range(ClassSetRange { span, start: literal(start), end: literal(end) })
    };
    let items = ranges.iter().map(range).collect();
    ClassBracketed { span, negated: class.negated, kind: ClassSet::union(ClassSetUnion { span, items }) }
}

/// `(?-u:\b)`.
fn in_bytes(assertion: &Assertion) -> Ast {
    let span = assertion.span;
    let items = [FlagsItemKind::Negation, FlagsItemKind::Flag(Flag::Unicode)];
    let items = items.map(|kind| FlagsItem { span, kind }).into();
    let kind = GroupKind::NonCapturing(Flags { span, items });
    Ast::group(Group { span, kind, ast: Box::new(Ast::assertion(assertion.clone())) })
}
