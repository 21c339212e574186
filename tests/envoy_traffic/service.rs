//! A rate limit service over gRPC, with messages of its own: an independent reader of what the filter sends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use prost::Message;

use crate::grpc::{self, Reply};

#[derive(Clone, PartialEq, Message)]
pub struct Question {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Text>,
    #[prost(message, optional, tag = "2")]
    pub limit: Option<Override>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Override {
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    #[prost(int32, tag = "2")]
    pub unit: i32,
}

/// A key and a value, or a header.
#[derive(Clone, PartialEq, Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    /// 1: pass, 2: over the limit.
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<Status>,
    #[prost(message, repeated, tag = "3")]
    pub response_headers: Vec<Text>,
    #[prost(message, repeated, tag = "4")]
    pub request_headers: Vec<Text>,
    #[prost(bytes = "vec", tag = "5")]
    pub body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(message, optional, tag = "2")]
    pub limit: Option<Limit>,
    #[prost(uint32, tag = "3")]
    pub remaining: u32,
    #[prost(message, optional, tag = "4")]
    pub until_reset: Option<prost_types::Duration>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Limit {
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
}

/// What the service does with a question.
pub enum Reaction {
    Say(Answer),
    /// A `grpc-status` and no message.
    Fail(&'static str),
    /// Nothing, until nobody waits any more.
    Silence,
}

/// It runs until the test ends.
pub struct Service {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, Question)>>>,
}

impl Service {
    pub fn start(react: impl Fn(&Question) -> Reaction + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<(String, Question)>>> = Arc::default();
        let seen = asked.clone();
        let address = grpc::serve(move |path, message| {
            let question = Question::decode(message).unwrap();
            let reaction = react(&question);
            seen.lock().unwrap().push((path.to_owned(), question));
            match reaction {
                Reaction::Say(answer) => Reply::Message(answer.encode_to_vec()),
                Reaction::Fail(status) => Reply::Fail(status),
                Reaction::Silence => Reply::Silence,
            }
        });
        Service { address, asked }
    }

    /// Every question so far, with the path that it came to.
    pub fn asked(&self) -> Vec<(String, Question)> {
        self.asked.lock().unwrap().clone()
    }
}
