//! What only the end of a stream knows, told as Envoy itself tells it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use h2::server::SendResponse;
use prost::bytes::Bytes;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::global::grpc_cluster;
use crate::pair::{Listener, Request, SideBySide, ours, plugin};
use crate::support::check::counter_differences;
use crate::support::envoy::wait_until;

/// What a call's answer is long.
const MESSAGE: usize = 100_000;

/// Answers every gRPC call with a message, and `NOT_FOUND` in the trailers.
fn upstream() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    address
}

async fn serve(stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        // A call that breaks is the caller's business.
        let _ = answer(&mut respond);
    }
}

fn answer(respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = http::Response::builder().header("content-type", "application/grpc");
    let mut stream = respond.send_response(head.body(()).unwrap(), false)?;
    stream.send_data(Bytes::from(vec![0; MESSAGE]), false)?;
    let trailers = [("grpc-status".try_into().unwrap(), "5".try_into().unwrap())];
    stream.send_trailers(trailers.into_iter().collect())
}

#[test]
fn what_the_end_of_a_stream_knows_is_told_in_metrics_and_logs() {
    let policy = json!({
        "http": [{"name": "call", "route": [{"destination": {"cluster": "calls"}}]}],
        "telemetry": {"tags": [
            {"name": "grpc_status", "value": {"property": "response.grpc_status"}, "default": "none"},
            {"name": "total_size", "value": {"property": "response.total_size"}, "in": ["logs"]},
            {"name": "took", "value": {"property": "request.duration"}, "in": ["logs"]},
        ]},
    });
    let listener = Listener { name: "ours", filters: vec![plugin("ours", &policy)], virtual_host: ours() };
    let running = SideBySide::start_with(&[listener], vec![grpc_cluster("calls", upstream())]);
    let mut client = running.client("ours");
    let call = Request::new("POST", "/service/method", &[("content-type", "application/grpc")]);
    let answer = client.send(&call, "call");
    assert_eq!((answer.status, answer.body.len()), (200, MESSAGE), "{:?}", answer.headers);

    let line = wait_until("the access log", || running.envoy.access_log().into_iter().next()).unwrap();
    let number = |name: &str| line[name].as_str().and_then(|text| text.parse::<u64>().ok());
    assert_eq!(line["grpc_status"], "5", "{line}");
    assert!(number("total_size").is_some_and(|size| size > MESSAGE as u64), "{line}");
    // Nanoseconds, and Envoy's own milliseconds.
    let (took, duration) = (number("took").unwrap(), line["duration"].as_u64().unwrap());
    assert!(took > 0 && took / 1_000_000 <= duration + 1, "{line}");

    let counter = r#"meshfilter_requests_total{route="call",destination="calls",decision="allowed",response_code="200",grpc_status="5"}"#;
    let expected = BTreeMap::from([(counter.to_owned(), 1)]);
    let differences = || counter_differences(&expected, &running.envoy.prometheus());
    wait_until("the counter", || differences().is_empty().then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}", differences()));
}
