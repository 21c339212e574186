//! Expressions in which case does not count: a letter becomes a class of all that differ from it by case alone.
//!
//! `regex-syntax` does that character by character, with a table of 41 000 bytes. The meaning is the same here.

mod table;
#[cfg(test)]
mod tests;

use regex_syntax::ast::{
    Ast, ClassAscii, ClassAsciiKind, ClassBracketed, ClassSet, ClassSetItem, ClassSetRange, ClassSetUnion,
    Flag, Flags, FlagsItemKind, GroupKind, Literal, LiteralKind,
};
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use table::TABLE;

/// What holds at a place in an expression.
#[derive(Clone, Copy)]
pub struct Case {
    /// `i`: whether case does not count.
    pub ignored: bool,
    /// `u`: whether characters are Unicode's. If not, ASCII's letters alone have a case.
    pub unicode: bool,
}

/// Takes the flag `i` out of an expression, and says by classes what it meant. `case` is what holds before, and afterwards
/// what holds behind. The parser bounds how deep an expression nests.
pub fn fold(ast: &mut Ast, case: &mut Case) {
    match ast {
        Ast::Flags(set) => case.set(&mut set.flags),
        Ast::Group(group) => {
            let mut within = *case;
            if let GroupKind::NonCapturing(flags) = &mut group.kind {
                within.set(flags);
            }
            fold(&mut group.ast, &mut within);
        }
        Ast::Repetition(repetition) => fold(&mut repetition.ast, case),
        // What one branch sets holds in the next ones, too.
        Ast::Alternation(alternation) => alternation.asts.iter_mut().for_each(|ast| fold(ast, case)),
        Ast::Concat(concat) => concat.asts.iter_mut().for_each(|ast| fold(ast, case)),
        Ast::Literal(literal) if case.ignored => {
            let span = literal.span;
            let mut item = ClassSetItem::Literal((**literal).clone());
            case.item(&mut item);
            if !matches!(item, ClassSetItem::Literal(_)) {
                let kind = ClassSet::Item(item);
                *ast = Ast::class_bracketed(ClassBracketed { span, negated: false, kind });
            }
        }
        Ast::ClassBracketed(class) if case.ignored => case.class(&mut class.kind),
        _ => {}
    }
}

impl Case {
    /// Takes over what flags say, and takes `i` out of them.
    fn set(&mut self, flags: &mut Flags) {
        let mut on = true;
        for item in &flags.items {
            match item.kind {
                FlagsItemKind::Negation => on = false,
                FlagsItemKind::Flag(Flag::CaseInsensitive) => self.ignored = on,
                FlagsItemKind::Flag(Flag::Unicode) => self.unicode = on,
                FlagsItemKind::Flag(_) => {}
            }
        }
        flags.items.retain(|item| item.kind != FlagsItemKind::Flag(Flag::CaseInsensitive));
    }

    /// Completes what a class is made of. Sets that have each character with all its others have so when they are joined,
    /// intersected, subtracted and negated: the parts that are written out are all that needs it.
    fn class(self, class: &mut ClassSet) {
        match class {
            ClassSet::Item(item) => self.item(item),
            ClassSet::BinaryOp(operation) => {
                self.class(&mut operation.lhs);
                self.class(&mut operation.rhs);
            }
        }
    }

    fn item(self, item: &mut ClassSetItem) {
        let (span, start, end) = match item {
            ClassSetItem::Literal(literal) => (literal.span, literal.c, literal.c),
            ClassSetItem::Range(range) => (range.span, range.start.c, range.end.c),
            ClassSetItem::Ascii(class) if class.negated => {
                let span = class.span;
                let plain = ClassAscii { span, kind: class.kind.clone(), negated: false };
                let mut kind = ClassSet::Item(ClassSetItem::Ascii(plain));
                self.class(&mut kind);
                *item = ClassSetItem::Bracketed(Box::new(ClassBracketed { span, negated: true, kind }));
                return;
            }
            ClassSetItem::Ascii(class) => match class.kind {
                ClassAsciiKind::Lower | ClassAsciiKind::Upper => {
                    class.kind = ClassAsciiKind::Alpha;
                    (class.span, 'A', 'z')
                }
                ClassAsciiKind::Alnum
                | ClassAsciiKind::Alpha
                | ClassAsciiKind::Ascii
                | ClassAsciiKind::Graph
                | ClassAsciiKind::Print
                | ClassAsciiKind::Word => (class.span, 'A', 'z'),
                // They have no letters, or all hexadecimal digits, which have no others.
                _ => return,
            },
            ClassSetItem::Bracketed(class) => return self.class(&mut class.kind),
            ClassSetItem::Union(union) => return union.items.iter_mut().for_each(|item| self.item(item)),
            ClassSetItem::Empty(_) | ClassSetItem::Unicode(_) | ClassSetItem::Perl(_) => return,
        };
        let others = self.others(start, end);
        if others.ranges().is_empty() {
            return;
        }
        let literal = |c| Literal { span, kind: LiteralKind::Verbatim, c };
        let mut items = Vec::with_capacity(others.ranges().len().saturating_add(1));
        items.push(item.clone());
        items.extend(others.iter().map(|other| match (other.start(), other.end()) {
            (start, end) if start == end => ClassSetItem::Literal(literal(start)),
            (start, end) => {
                ClassSetItem::Range(ClassSetRange { span, start: literal(start), end: literal(end) })
            }
        }));
        *item = ClassSetItem::Union(ClassSetUnion { span, items });
    }

    /// The characters that differ by case alone from some of a range, and are not in it.
    fn others(self, start: char, end: char) -> ClassUnicode {
        let own = ClassUnicode::new([ClassUnicodeRange::new(start, end)]);
        let ascii = ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7f')]);
        let mut last = own.clone();
        if !self.unicode {
            last.intersect(&ascii);
        }
        let mut all = last.clone();
        // At most four differ by case alone, as θ, Θ, ϑ and ϴ: each of them is at most three steps away.
        for _ in 1..4 {
            last = ClassUnicode::new(last.iter().flat_map(next));
            all.union(&last);
        }
        if !self.unicode {
            all.intersect(&ascii);
        }
        all.difference(&own);
        all
    }
}

/// The next character for each of a range that has one; where two are each other's next, both.
fn next(range: &ClassUnicodeRange) -> impl Iterator<Item = ClassUnicodeRange> {
    let (start, end) = (u32::from(range.start()), u32::from(range.end()));
    let first = TABLE.partition_point(|(_, last, _)| *last < start);
    let entries = TABLE.iter().skip(first).take_while(move |(first, ..)| *first <= end);
    entries.filter_map(move |(first, last, distance)| {
        let (start, end) = (start.max(*first), end.min(*last));
        let (start, end) = if *distance == 0 {
            let is_second = |of: u32| of.saturating_sub(*first) % 2;
            (start.saturating_sub(is_second(start)), end.saturating_add(1).saturating_sub(is_second(end)))
        } else {
            (start.saturating_add_signed(*distance), end.saturating_add_signed(*distance))
        };
        Some(ClassUnicodeRange::new(char::from_u32(start)?, char::from_u32(end)?))
    })
}
