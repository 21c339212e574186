//! A rate limit service over gRPC, with messages of its own: an independent reader of what the filter sends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};

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
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let service = Service { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let (asked, react) = (service.asked.clone(), Arc::new(react));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, asked.clone(), react.clone()));
                }
            });
        });
        service
    }

    /// Every question so far, with the path that it came to.
    pub fn asked(&self) -> Vec<(String, Question)> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve<F: Fn(&Question) -> Reaction + Send + Sync + 'static>(
    stream: TcpStream,
    asked: Arc<Mutex<Vec<(String, Question)>>>,
    react: Arc<F>,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (asked, react) = (asked.clone(), react.clone());
        // A call that breaks is the caller's business.
        tokio::spawn(async move { answer(request, respond, &asked, &*react).await });
    }
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    asked: &Mutex<Vec<(String, Question)>>,
    react: &(impl Fn(&Question) -> Reaction + Sync),
) -> Result<(), h2::Error> {
    let path = request.uri().path().to_owned();
    let trailers = request.headers().get("te").is_some_and(|te| te == "trailers");
    assert!(trailers && request.headers()["content-type"] == "application/grpc", "{:?}", request.headers());
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes[0], 0, "not compressed");
    assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5);
    let question = Question::decode(&bytes[5..]).unwrap();
    let reaction = react(&question);
    asked.lock().unwrap().push((path, question));
    let head = http::Response::builder().header("content-type", "application/grpc");
    match reaction {
        Reaction::Silence => {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        Reaction::Fail(status) => {
            respond.send_response(head.header("grpc-status", status).body(()).unwrap(), true)?;
        }
        Reaction::Say(answer) => {
            let mut frame = BytesMut::new();
            frame.put_u8(0);
            frame.put_u32(u32::try_from(answer.encoded_len()).unwrap());
            answer.encode(&mut frame).unwrap();
            let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
            stream.send_data(frame.freeze(), false)?;
            let trailers = [("grpc-status", "0")];
            let trailers =
                trailers.map(|(name, value)| (name.try_into().unwrap(), value.try_into().unwrap()));
            stream.send_trailers(trailers.into_iter().collect())?;
        }
    }
    Ok(())
}
