//! A server of gRPC, for calls of one message each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a call.
pub enum Reply {
    Message(Vec<u8>),
    /// A `grpc-status` and no message.
    Fail(&'static str),
    /// Nothing, until nobody waits any more.
    Silence,
}

/// Serves until the test ends: the path of a call and its message → what is said to it.
pub fn serve(react: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let react = Arc::new(react);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, react.clone()));
            }
        });
    });
    address
}

async fn connection<F: Fn(&str, &[u8]) -> Reply + Send + Sync + 'static>(stream: TcpStream, react: Arc<F>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let react = react.clone();
        // A call that breaks is the caller's business.
        tokio::spawn(async move { answer(request, respond, &*react).await });
    }
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    react: &(impl Fn(&str, &[u8]) -> Reply + Sync),
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
    let reply = react(&path, &bytes[5..]);
    let head = http::Response::builder().header("content-type", "application/grpc");
    match reply {
        Reply::Silence => {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        Reply::Fail(status) => {
            respond.send_response(head.header("grpc-status", status).body(()).unwrap(), true)?;
        }
        Reply::Message(message) => {
            let mut frame = BytesMut::new();
            frame.put_u8(0);
            frame.put_u32(u32::try_from(message.len()).unwrap());
            frame.put_slice(&message);
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
