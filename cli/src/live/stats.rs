//! What Envoy's `/stats?format=json&histogram_buckets=cumulative` says, read in one pass and within bounds.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// So many series of one Envoy are read.
pub const MAX_SERIES: usize = 100_000;

/// Envoy has some twenty bounds; nobody needs more.
pub const MAX_BOUNDS: usize = 256;

/// A bound, and how many samples are not above it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    pub bound: f64,
    pub count: u64,
}

/// One series.
#[derive(Debug, PartialEq)]
pub enum Said<'a> {
    /// A counter or a gauge.
    Number(&'a str, u64),
    /// A histogram, its bounds rising.
    Histogram(&'a str, &'a [Bucket]),
}

/// Reads the answer and hands on every series.
///
/// # Errors
/// That it is not what Envoy says, and where, or that there are too many series.
pub fn read(answer: &[u8], told: &mut dyn FnMut(Said<'_>)) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(answer);
    let mut left = MAX_SERIES;
    let mut reader = Reader { told, left: &mut left };
    let read = Object { name: "stats", inner: List(&mut reader) }.deserialize(&mut deserializer);
    match read.and_then(|found| deserializer.end().map(|()| found)) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the answer is no statistics of Envoy".to_owned()),
        Err(error) if left == 0 => Err(format!("{error}")),
        Err(error) => Err(format!("the answer is no statistics of Envoy: {error}")),
    }
}

struct Reader<'a> {
    told: &'a mut dyn FnMut(Said<'_>),
    left: &'a mut usize,
}

impl Reader<'_> {
    fn tell<E: Error>(&mut self, said: Said<'_>) -> Result<(), E> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(E::custom(format_args!("there are more than {MAX_SERIES} series")));
        };
        *self.left = left;
        (self.told)(said);
        Ok(())
    }
}

/// One member of an object is read; whether it was there.
struct Object<S> {
    name: &'static str,
    inner: S,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Object<S> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Object<S> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object with {}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut inner = Some(self.inner);
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match inner.take() {
                Some(seed) if name == self.name => {
                    map.next_value_seed(seed)?;
                }
                kept => {
                    inner = kept;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(inner.is_none())
    }
}

/// The elements of `stats`, or of the list of histograms among them.
struct List<'a, 'b>(&'a mut Reader<'b>);

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of statistics")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Element(&mut *self.0))?.is_some() {}
        Ok(())
    }

    /// Without the parameter that asks for buckets, histograms are summaries.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct Element<'a, 'b>(&'a mut Reader<'b>);

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a statistic")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut name, mut value, mut buckets) = (None, None, None);
        while let Some(member) = map.next_key()? {
            match member {
                Member::Name => name = Some(map.next_value::<Text<'de>>()?.0),
                Member::Value => value = map.next_value::<Number>()?.0,
                Member::Buckets => buckets = Some(map.next_value::<Buckets>()?.0),
                Member::Histograms => map.next_value_seed(List(&mut *self.0))?,
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (name, value, buckets) {
            (Some(name), Some(value), _) => self.0.tell(Said::Number(&name, value)),
            (Some(name), None, Some(buckets)) => self.0.tell(Said::Histogram(&name, &buckets)),
            _ => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Name,
    Value,
    Buckets,
    Histograms,
    #[serde(other)]
    Other,
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A number of Envoy's; texts and what is negative are none of ours.
struct Number(Option<u64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Number;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a number or a text")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(Some(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(u64::try_from(value).ok()))
            }

            /// What has become so large stands there as `1e+20`.
            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number((value >= 0.0).then_some(value as u64)))
            }

            fn visit_str<E>(self, _: &str) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

struct Buckets(Vec<Bucket>);

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Told {
            upper_bound: f64,
            cumulative: u64,
        }
        struct Rising;
        impl<'de> Visitor<'de> for Rising {
            type Value = Buckets;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("cumulative buckets")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Buckets, A::Error> {
                let mut buckets: Vec<Bucket> = Vec::new();
                while let Some(Told { upper_bound, cumulative }) = list.next_element()? {
                    let rises = buckets
                        .last()
                        .is_none_or(|last| last.bound < upper_bound && last.count <= cumulative);
                    if !rises || buckets.len() >= MAX_BOUNDS {
                        return Err(A::Error::custom("these are no cumulative buckets"));
                    }
                    buckets.push(Bucket { bound: upper_bound, count: cumulative });
                }
                Ok(Buckets(buckets))
            }
        }
        deserializer.deserialize_seq(Rising)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &str) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        read(answer.as_bytes(), &mut |said| all.push(format!("{said:?}"))).map(|()| all)
    }

    #[test]
    fn numbers_and_histograms_are_read_and_texts_are_not() {
        let answer = r#"{"stats":[{"name":"a<l=\"x\">","value":7},{"name":"v","value":"text"},{"value":1,"name":"b"},
            {"histograms":[{"name":"h","buckets":[{"upper_bound":0.5,"interval":0,"cumulative":1},
            {"upper_bound":3e+05,"interval":0,"cumulative":2}]}]}]}"#;
        assert_eq!(
            said(answer).unwrap(),
            [
                r#"Number("a<l=\"x\">", 7)"#,
                r#"Number("b", 1)"#,
                r#"Histogram("h", [Bucket { bound: 0.5, count: 1 }, Bucket { bound: 300000.0, count: 2 }])"#,
            ]
        );
        // An Envoy that was not asked for buckets.
        let summary = r#"{"stats":[{"name":"a","value":1},{"histograms":{"supported_quantiles":[0],"computed_quantiles":[]}}]}"#;
        assert_eq!(said(summary).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_statistics_is_an_error() {
        for (answer, wrong) in [
            ("", "EOF while parsing"),
            ("<html>", "expected value at line 1 column 1"),
            ("{}", "is no statistics of Envoy"),
            ("[]", "expected an object with stats"),
            ("{\"stats\":[{\"name\":\"a\",\"value\":1}", "EOF while parsing"),
            ("{\"stats\":[1]}", "expected a statistic"),
            ("{\"stats\":[]} x", "trailing characters"),
            (
                "{\"stats\":[{\"name\":\"h\",\"buckets\":[{\"upper_bound\":1,\"cumulative\":2},{\"upper_bound\":2,\"cumulative\":1}]}]}",
                "no cumulative buckets",
            ),
        ] {
            let error = said(answer).unwrap_err();
            assert!(error.contains(wrong), "{answer}: {error}");
        }
        let many =
            format!("{{\"stats\":[{}]}}", vec!["{\"name\":\"a\",\"value\":1}"; MAX_SERIES + 1].join(","));
        assert!(said(&many).unwrap_err().contains("more than 100000 series"));
        let deep = format!("{{\"stats\":{}", "[".repeat(100_000));
        assert!(said(&deep).is_err());
    }
}
