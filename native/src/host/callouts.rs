use std::collections::HashMap;

use meshfilter::host::NumberHash;

use crate::process::{Answer, Reply};

/// The callouts under way on one thread: which token each has, and what has come of its answer.
#[derive(Default)]
pub struct Callouts {
    last_token: u32,
    under_way: HashMap<(u32, u64), UnderWay, NumberHash>,
}

#[derive(Default)]
struct UnderWay {
    /// `None` until the call that began it has come back.
    token: Option<u32>,
    answer: Option<Answer>,
    over: bool,
}

/// A part of an answer.
pub enum Part<'a> {
    Headers(&'a [(&'a [u8], &'a [u8])]),
    Body(&'a [u8]),
    Trailers(&'a [(&'a [u8], &'a [u8])]),
}

/// The longest answer that is kept, in bytes: one more than any reader takes.
const LONGEST: usize = 1024 * 1024 + 1;

impl Callouts {
    /// A token that no callout under way has.
    pub fn token(&mut self) -> u32 {
        self.last_token = self.last_token.wrapping_add(1).max(1);
        self.last_token
    }

    /// Says which token the callout with this number has; its answer, if it was over before. The inner option is `None`
    /// where there was no answer.
    pub fn name(&mut self, stream: u32, id: u64, token: u32) -> Option<Option<Answer>> {
        let call = self.under_way.entry((stream, id)).or_default();
        call.token = Some(token);
        if !call.over {
            return None;
        }
        self.under_way.remove(&(stream, id)).map(|call| call.answer)
    }

    /// A part of an answer is there.
    pub fn part(&mut self, stream: u32, id: u64, part: &Part<'_>) {
        let call = self.under_way.entry((stream, id)).or_default();
        let answer = call.answer.get_or_insert_default();
        match part {
            Part::Headers(pairs) => answer.headers = pairs.iter().copied().collect(),
            Part::Trailers(pairs) => answer.trailers = pairs.iter().copied().collect(),
            Part::Body(bytes) => {
                let room = LONGEST.saturating_sub(answer.body.len());
                answer.body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
        }
    }

    /// An answer is complete, or it broke off and counts for nothing. `None` where nobody has asked yet.
    pub fn over(&mut self, stream: u32, id: u64, complete: bool) -> Option<Reply> {
        let call = self.under_way.entry((stream, id)).or_default();
        if !complete {
            call.answer = None;
        }
        call.over = true;
        let token = call.token?;
        self.under_way.remove(&(stream, id)).map(|call| Reply { token, answer: call.answer })
    }

    /// A stream is gone, and with it what it asked.
    pub fn forget(&mut self, stream: u32) {
        if !self.under_way.is_empty() {
            self.under_way.retain(|(of, _), _| *of != stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_in_parts() {
        let mut callouts = Callouts::default();
        let token = callouts.token();
        assert!(callouts.name(7, 1, token).is_none());
        callouts.part(7, 1, &Part::Headers(&[(b":status", b"200")]));
        callouts.part(7, 1, &Part::Body(b"a"));
        callouts.part(7, 1, &Part::Body(b"b"));
        callouts.part(7, 1, &Part::Trailers(&[(b"grpc-status", b"0")]));
        let reply = callouts.over(7, 1, true).unwrap();
        assert_eq!(reply.token, token);
        let answer = reply.answer.unwrap();
        assert_eq!(answer.headers.get(b":status"), Some(b"200".as_slice()));
        assert_eq!(answer.body, b"ab");
        assert_eq!(answer.trailers.get(b"grpc-status"), Some(b"0".as_slice()));
        assert!(callouts.under_way.is_empty());
    }

    #[test]
    fn an_answer_may_be_over_before_its_number_is_known() {
        let mut callouts = Callouts::default();
        callouts.part(7, 1, &Part::Headers(&[(b":status", b"503")]));
        assert!(callouts.over(7, 1, true).is_none());
        let token = callouts.token();
        let answer = callouts.name(7, 1, token).unwrap().unwrap();
        assert_eq!(answer.headers.get(b":status"), Some(b"503".as_slice()));
        assert!(callouts.over(8, 1, false).is_none());
        assert!(callouts.name(8, 1, token).unwrap().is_none());
        assert!(callouts.under_way.is_empty());
    }

    #[test]
    fn what_broke_off_and_what_is_too_long_counts_for_nothing() {
        let mut callouts = Callouts::default();
        callouts.name(7, 1, 1);
        callouts.part(7, 1, &Part::Body(&vec![0; 2 * LONGEST]));
        assert_eq!(callouts.under_way[&(7, 1)].answer.as_ref().unwrap().body.len(), LONGEST);
        assert!(callouts.over(7, 1, false).unwrap().answer.is_none());
        callouts.name(7, 2, 2);
        callouts.name(8, 2, 3);
        callouts.forget(7);
        assert_eq!(callouts.under_way.len(), 1);
    }
}
