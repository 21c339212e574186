//! Resources are read by taking their fields by name. Whoever takes a field says what becomes of it; what nobody asked for is
//! found when the object that it stands in is done with, and is an error.

use std::cell::RefCell;
use std::time::Duration;

use meshfilter::config::document;
use serde_json::{Map, Value};

use super::read;
use super::report::{Entry, Log, Problem, Severity, Verdict, leaves, member};

/// A value of a resource, and the way to it.
#[derive(Clone)]
pub struct Field<'a> {
    value: &'a Value,
    path: String,
    reading: Reading<'a>,
}

/// What all fields of a resource have in common.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Where verdicts go.
    pub log: &'a Log,
    /// What to say of a name that an object does not have: the path of the object, and the name.
    pub hint: fn(&str, &str) -> Option<String>,
}

/// An object of a resource. What was not asked for when it goes is an error.
pub struct Object<'a> {
    members: &'a Map<String, Value>,
    path: String,
    reading: Reading<'a>,
    asked: RefCell<Vec<&'static str>>,
}

/// What stands where, for what is taken as it is.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// A span of time, `5s`.
    Span,
    /// Whatever it is.
    Any,
    /// Several.
    List(&'static Shape),
    /// Members with names that the user chose.
    Map(&'static Shape),
    /// Members with these names.
    Object(&'static [Member]),
    /// It says nothing: why.
    NoMeaning(&'static str),
    /// It is not done, and nobody gets in or elsewhere by that: why, and what to do.
    Refused(&'static str, &'static str),
    /// It is not done, and that would change who gets in, where to, or how often: why, and what to do.
    Forbidden(&'static str, &'static str),
}

/// A member of a [`Shape::Object`].
#[derive(Clone, Copy, Debug)]
pub struct Member(pub &'static str, pub Shape);

impl<'a> Field<'a> {
    /// The whole of a resource.
    pub fn root(value: &'a Value, reading: Reading<'a>) -> Self {
        Field { value, path: String::new(), reading }
    }

    /// What a text says that stands there.
    pub fn within<'b>(&self, value: &'b Value) -> Field<'b>
    where
        'a: 'b,
    {
        Field { value, path: self.path.clone(), reading: self.reading }
    }

    /// What stands there.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// The way to it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where verdicts go.
    pub fn log(&self) -> &'a Log {
        self.reading.log
    }

    // ---- what it is

    /// An object; anything else is an error, and refused.
    pub fn object(&self) -> Option<Object<'a>> {
        match self.value {
            Value::Object(members) => {
                if members.is_empty() {
                    self.mark(Verdict::Taken, "nothing: it is empty", "", "");
                }
                Some(Object {
                    members,
                    path: self.path.clone(),
                    reading: self.reading,
                    asked: RefCell::default(),
                })
            }
            _ => self.unfit("an object"),
        }
    }

    /// [`Self::object`] without a word.
    pub fn object_quietly(&self) -> Option<Object<'a>> {
        let members = self.value.as_object()?;
        Some(Object { members, path: self.path.clone(), reading: self.reading, asked: RefCell::default() })
    }

    /// The elements of a list; anything else is an error, and refused.
    pub fn items(&self) -> Vec<Field<'a>> {
        match self.value {
            Value::Array(items) => {
                if items.is_empty() {
                    self.mark(Verdict::Taken, "nothing: it is empty", "", "");
                }
                let item = |(index, value)| Field {
                    value,
                    path: format!("{}[{index}]", self.path),
                    reading: self.reading,
                };
                items.iter().enumerate().map(item).collect()
            }
            _ => self.unfit("a list").unwrap_or_default(),
        }
    }

    /// The members of an object whose names the user chose; anything else is an error, and refused.
    pub fn entries(&self) -> Vec<(&'a str, Field<'a>)> {
        match self.value {
            Value::Object(members) => {
                if members.is_empty() {
                    self.mark(Verdict::Taken, "nothing: it is empty", "", "");
                }
                let entry = |(name, value): (&'a String, &'a Value)| {
                    let field = Field { value, path: member(&self.path, name), reading: self.reading };
                    (name.as_str(), field)
                };
                members.iter().map(entry).collect()
            }
            _ => self.unfit("an object").unwrap_or_default(),
        }
    }

    /// A text; anything else is an error, and refused.
    pub fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Number(_) | Value::Bool(_) => {
                self.wrong(format!("{} is not a text; put it in quotes", self.value))
            }
            _ => self.unfit("a text"),
        }
    }

    /// The document that a text is, if there is anything in it; anything else is an error, and refused.
    pub fn document(&self) -> Option<Value> {
        match read::inner(self.text()?) {
            Ok(Value::Null) => {
                self.taken("nothing: it is empty");
                None
            }
            Ok(value) => Some(value),
            Err(message) => self.wrong(message),
        }
    }

    /// `true` or `false`; anything else is an error, and refused.
    pub fn flag(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.unfit("true or false"))
    }

    /// A whole number in a range; anything else is an error, and refused.
    pub fn whole(&self, least: u64, most: u64) -> Option<u64> {
        let whole = self.value.as_u64().or_else(|| {
            // Programs write 5 as 5.0.
            let number = self.value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0)?;
            format!("{number}").parse().ok()
        });
        let fits = whole.filter(|whole| (least..=most).contains(whole));
        fits.or_else(|| self.unfit(&format!("a whole number from {least} to {most}")))
    }

    /// A number in a range; anything else is an error, and refused.
    pub fn number(&self, least: f64, most: f64) -> Option<f64> {
        let number = self.value.as_f64().filter(|number| (least..=most).contains(number));
        number.or_else(|| self.unfit(&format!("a number from {least} to {most}")))
    }

    /// A span of time such as `5s`; anything else is an error, and refused.
    pub fn span(&self) -> Option<Duration> {
        let span = self.value.as_str().and_then(document::Duration::parse);
        span.map(|span| span.0).or_else(|| self.unfit("a span of time such as 5s, 250ms or 1m30s"))
    }

    /// Texts; anything else is an error, and refused.
    pub fn texts(&self) -> Vec<&'a str> {
        self.items().iter().filter_map(Field::text).collect()
    }

    // ---- what becomes of it

    /// It is in the policy, as this. The verdict is that of everything in it.
    pub fn taken(&self, to: impl AsRef<str>) {
        self.mark(Verdict::Taken, to.as_ref(), "", "");
    }

    /// [`Self::taken`] in one entry, for what may be long.
    pub fn taken_as_a_whole(&self, to: impl AsRef<str>) {
        self.entry(self.path.clone(), Verdict::Taken, to.as_ref(), "", "");
    }

    /// It is in Envoy's configuration, as this.
    pub fn left_to_envoy(&self, to: impl AsRef<str>) {
        self.mark(Verdict::LeftToEnvoy, to.as_ref(), "", "");
    }

    /// It says nothing about what one proxy does.
    pub fn no_meaning(&self, reason: &str) {
        self.mark(Verdict::NoMeaning, "", reason, "");
    }

    /// [`Self::no_meaning`] in one entry, for what may be long: labels, annotations, status.
    pub fn no_meaning_as_a_whole(&self, reason: &str) {
        self.entry(self.path.clone(), Verdict::NoMeaning, "", reason, "");
    }

    /// It is not done, and nobody gets in, elsewhere or more often by that: a warning.
    pub fn refuse(&self, reason: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.mark(Verdict::Refused, "", reason.as_ref(), remedy.as_ref());
        self.problem(Severity::Warning, reason.as_ref(), remedy.as_ref());
    }

    /// It is not done, and that would change who gets in, where to, or how often: an error.
    pub fn forbid(&self, reason: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.mark(Verdict::Refused, "", reason.as_ref(), remedy.as_ref());
        self.problem(Severity::Error, reason.as_ref(), remedy.as_ref());
    }

    /// Something to know of it, beside its verdict.
    pub fn warn(&self, message: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.problem(Severity::Warning, message.as_ref(), remedy.as_ref());
    }

    /// An error beside its verdict: something is missing in it, or what it names is.
    pub fn problem_here(&self, message: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.problem(Severity::Error, message.as_ref(), remedy.as_ref());
    }

    /// It is wrong; its verdict is that it is refused.
    pub fn wrong<T>(&self, message: impl AsRef<str>) -> Option<T> {
        self.forbid(message, "");
        None
    }

    fn whole_number(&self, number: f64) -> Option<Value> {
        let whole = number.fract() == 0.0;
        whole.then(|| format!("{number}").parse::<i64>().ok().map(Value::from)).flatten()
    }

    fn unfit<T>(&self, wanted: &str) -> Option<T> {
        self.wrong(format!("{} is not {wanted}", shown(self.value)))
    }

    fn problem(&self, severity: Severity, message: &str, remedy: &str) {
        self.reading.log.problem(Problem {
            severity,
            path: self.path.clone(),
            message: message.to_owned(),
            remedy: remedy.to_owned(),
            at_name: false,
        });
    }

    fn mark(&self, verdict: Verdict, to: &str, reason: &str, remedy: &str) {
        leaves(self.value, self.path.clone(), &mut |path, _| {
            self.entry(path.to_owned(), verdict, to, reason, remedy);
        });
    }

    fn entry(&self, path: String, verdict: Verdict, to: &str, reason: &str, remedy: &str) {
        self.reading.log.entry(Entry {
            path,
            verdict,
            to: to.to_owned(),
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    /// Takes what has this shape as it is; `to` is where it goes in the policy, its members below that. What is refused is not
    /// in the value that comes back.
    pub fn copy(&self, shape: &Shape, to: &str) -> Option<Value> {
        match shape {
            Shape::Any => {
                self.taken(to);
                return Some(self.value.clone());
            }
            Shape::Text => self.text().map(drop)?,
            Shape::Flag => self.flag().map(drop)?,
            Shape::Whole => self.whole(0, u64::MAX).map(drop)?,
            Shape::Number => {
                let number = self.number(f64::MIN, f64::MAX)?;
                self.taken(to);
                // Programs write 100 as 100.0.
                return self.whole_number(number).or_else(|| Some(self.value.clone()));
            }
            Shape::Span => self.span().map(drop)?,
            Shape::List(shape) => {
                let items = self.items().into_iter().enumerate();
                let items = items.filter_map(|(index, item)| item.copy(shape, &format!("{to}[{index}]")));
                return self.value.is_array().then(|| Value::Array(items.collect()));
            }
            Shape::Map(shape) => {
                let entries = self.entries().into_iter();
                let entry = |(name, field): (&str, Field<'_>)| {
                    Some((name.to_owned(), field.copy(shape, &format!("{to}[{name}]"))?))
                };
                return self.value.is_object().then(|| Value::Object(entries.filter_map(entry).collect()));
            }
            Shape::Object(members) => {
                let object = self.object()?;
                return Some(Value::Object(object.copy(members, to)));
            }
            Shape::NoMeaning(reason) => {
                self.no_meaning(reason);
                return None;
            }
            Shape::Refused(reason, remedy) => {
                self.refuse(reason, remedy);
                return None;
            }
            Shape::Forbidden(reason, remedy) => {
                self.forbid(reason, remedy);
                return None;
            }
        }
        self.taken(to);
        Some(self.value.clone())
    }
}

impl<'a> Object<'a> {
    /// A member by its name. `null` is as if it were not there.
    pub fn field(&self, name: &'static str) -> Option<Field<'a>> {
        self.asked.borrow_mut().push(name);
        let field = self.peek(name)?;
        if field.value.is_null() {
            field.no_meaning("it is empty");
            return None;
        }
        Some(field)
    }

    /// [`Self::field`] for a look: it has to be asked for all the same.
    pub fn peek(&self, name: &str) -> Option<Field<'a>> {
        let value = self.members.get(name)?;
        Some(Field { value, path: member(&self.path, name), reading: self.reading })
    }

    /// These may stand here, whoever asks for them: where one is wrong, the others are not unknown.
    pub fn may_have(&self, names: &[&'static str]) {
        self.asked.borrow_mut().extend(names);
    }

    /// The way to it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where verdicts go.
    pub fn log(&self) -> &'a Log {
        self.reading.log
    }

    /// Whether there is a member of this name.
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Members that are taken as they are, see [`Field::copy`].
    pub fn copy(&self, members: &'static [Member], to: &str) -> Map<String, Value> {
        let mut copied = Map::new();
        for Member(name, shape) in members {
            let Some(field) = self.field(name) else { continue };
            let to = if to.is_empty() { (*name).to_owned() } else { format!("{to}.{name}") };
            if let Some(value) = field.copy(shape, &to) {
                copied.insert((*name).to_owned(), value);
            }
        }
        copied
    }

    /// Says of every member that nobody asked for the same.
    pub fn rest(&self, say: impl Fn(&Field<'a>)) {
        for (name, value) in self.members {
            if !self.asked.borrow().contains(&name.as_str()) {
                say(&Field { value, path: member(&self.path, name), reading: self.reading });
            }
        }
        self.asked.borrow_mut().push("*");
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        if asked.contains(&"*") {
            return;
        }
        for (name, value) in self.members {
            if asked.contains(&name.as_str()) {
                continue;
            }
            let field = Field { value, path: member(&self.path, name), reading: self.reading };
            let (message, remedy) = unknown(name, &asked, (self.reading.hint)(&self.path, name));
            field.mark(Verdict::Refused, "", &message, &remedy);
            self.reading.log.problem(Problem {
                severity: Severity::Error,
                path: field.path,
                message,
                remedy,
                at_name: true,
            });
        }
    }
}

/// What to say of a name that is not known.
fn unknown(name: &str, known: &[&'static str], hint: Option<String>) -> (String, String) {
    if let Some(hint) = hint {
        return (format!("{name} is not a field here"), hint);
    }
    let remedy = match nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => "leave it out".to_owned(),
        None => {
            let mut known: Vec<&str> = known.to_vec();
            known.sort_unstable();
            known.dedup();
            format!("what may stand here: {}", known.join(", "))
        }
    };
    (format!("{name} is not a field here"), remedy)
}

/// The name that was meant, where one is near enough.
pub fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let (distance, near) = known.iter().map(|known| (distance(name, known), *known)).min()?;
    (distance <= 2 || distance.saturating_mul(3) <= name.len()).then_some(near)
}

/// How many letters differ, neither case nor `_` counting.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| -> Vec<char> {
        text.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
    };
    let (a, b) = (plain(a), plain(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut corner = i;
        let mut before = i.saturating_add(1);
        let mut next = vec![before];
        for (above, right) in row.iter().skip(1).zip(&b) {
            let cost = usize::from(left != right);
            let least =
                corner.saturating_add(cost).min(above.saturating_add(1)).min(before.saturating_add(1));
            corner = *above;
            before = least;
            next.push(least);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// A value in a few words; what is long may be a secret, and is cut.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "this text".to_owned(),
        other => other.to_string(),
    }
}
