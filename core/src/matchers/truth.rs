use std::ops::Not;

/// An answer that may be missing: what cannot be told must neither let a refusal lapse nor grant anything.
///
/// `and` is the least of its parts, `or` the greatest, and `not` leaves [`Truth::Unknown`] as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It does not hold.
    No,
    /// It cannot be told.
    Unknown,
    /// It holds.
    Yes,
}

impl Truth {
    /// Whether one of them holds; the rest is not asked once one does.
    pub fn any(answers: impl IntoIterator<Item = Truth>) -> Truth {
        let mut found = Truth::No;
        for answer in answers {
            found = found.max(answer);
            if found == Truth::Yes {
                break;
            }
        }
        found
    }

    /// Whether each of them holds, and there is one. Where only some do, it cannot be told.
    pub fn each(answers: impl IntoIterator<Item = Truth>) -> Truth {
        let (mut least, mut most) = (Truth::Yes, Truth::No);
        for answer in answers {
            (least, most) = (least.min(answer), most.max(answer));
        }
        match (least, most) {
            (_, Truth::No) => Truth::No,
            (Truth::Yes, _) => Truth::Yes,
            _ => Truth::Unknown,
        }
    }

    /// Whether all of them hold; the rest is not asked once one does not.
    pub fn all(answers: impl IntoIterator<Item = Truth>) -> Truth {
        let mut found = Truth::Yes;
        for answer in answers {
            found = found.min(answer);
            if found == Truth::No {
                break;
            }
        }
        found
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Truth::Yes } else { Truth::No }
    }
}

impl Not for Truth {
    type Output = Truth;

    fn not(self) -> Truth {
        match self {
            Truth::No => Truth::Yes,
            Truth::Unknown => Truth::Unknown,
            Truth::Yes => Truth::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Truth::{No, Unknown, Yes};
    use super::*;

    #[test]
    fn what_is_unknown_stays_so_unless_the_rest_decides() {
        assert_eq!(Truth::any([]), No);
        assert_eq!(Truth::any([No, Unknown]), Unknown);
        assert_eq!(Truth::any([Unknown, Yes]), Yes);
        assert_eq!([Truth::each([]), Truth::each([No, No]), Truth::each([Yes, Yes])], [No, No, Yes]);
        assert_eq!([Truth::each([Yes, No]), Truth::each([Unknown, Yes])], [Unknown, Unknown]);
        assert_eq!(Truth::all([]), Yes);
        assert_eq!(Truth::all([Yes, Unknown]), Unknown);
        assert_eq!(Truth::all([Unknown, No]), No);
        assert_eq!([!No, !Unknown, !Yes], [Yes, Unknown, No]);
    }
}
