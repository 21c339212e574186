//! A rate limit service for tests: `envoy.service.ratelimit.v3.RateLimitService` over limits as Limitador has them,
//! counted in Redis.
//!
//! Without a file a descriptor is counted by the limit that it brings, and the answer says what is left of it and when it
//! begins anew, as envoyproxy/ratelimit's does. With a file it is Limitador: limits that are brought count for nothing, and
//! the answer is yes or no.

mod counts;
mod limits;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use limitador::counter::Counter;
use limitador::limit::Limit;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use counts::Counts;
use limits::Limits;

/// A rate limit service for tests
#[derive(Parser)]
struct Arguments {
    /// Where Redis is: redis://HOST:PORT
    #[arg(long, value_name = "URL")]
    redis: String,

    /// Where to listen; port 0 is any
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Limits as Limitador has them, in YAML, in place of those that descriptors bring
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let limits = arguments.limits.as_deref().map(Limits::read).transpose()?;
    let service = Service { limits, counts: Counts::connect(&arguments.redis).await? };
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    tonic::transport::Server::builder()
        .add_service(RateLimitServiceServer::new(service))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

struct Service {
    limits: Option<Limits>,
    counts: Counts,
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let RateLimitRequest { domain, descriptors, hits_addend } = request.into_inner();
        let hits = u64::from(hits_addend.max(1));
        let (places, mut counters): (Vec<usize>, Vec<Counter>) = match &self.limits {
            Some(limits) => (Vec::new(), limits.counters(&domain, &descriptors).map_err(unavailable)?),
            None => {
                let each = descriptors.iter().enumerate();
                each.filter_map(|(place, descriptor)| Some((place, brought(&domain, descriptor)?))).unzip()
            }
        };
        let within = self.counts.take(&mut counters, hits).await.map_err(unavailable)?;
        let mut statuses = Vec::new();
        if self.limits.is_none() {
            let ok = DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
            statuses = vec![ok; descriptors.len()];
        }
        for (place, counter) in places.into_iter().zip(&counters) {
            statuses[place] = status(&descriptors[place], counter, within, hits);
        }
        let overall_code = if within { Code::Ok } else { Code::OverLimit }.into();
        Ok(Response::new(RateLimitResponse { overall_code, statuses, ..RateLimitResponse::default() }))
    }
}

fn unavailable(error: impl std::fmt::Display) -> Status {
    eprintln!("{error}");
    Status::unavailable(error.to_string())
}

/// The counter of a descriptor that brings its limit.
fn brought(domain: &str, descriptor: &RateLimitDescriptor) -> Option<Counter> {
    let RateLimitOverride { requests_per_unit, unit } = descriptor.limit?;
    let seconds = match unit {
        1 => 1,
        2 => 60,
        3 => 3600,
        4 => 86_400,
        5 => 2_592_000,
        6 => 31_536_000,
        _ => return None,
    };
    let variables = descriptor.entries.iter().map(|entry| limits::variable(&entry.key));
    let variables: Vec<_> = variables.collect::<Option<_>>()?;
    let limit = Limit::new(domain, requests_per_unit.into(), seconds, [], variables);
    Counter::new(limit, &limits::context(std::slice::from_ref(descriptor))).ok().flatten()
}

/// What is said of one descriptor. Its limit is one that it brought.
fn status(descriptor: &RateLimitDescriptor, counter: &Counter, within: bool, hits: u64) -> DescriptorStatus {
    let left = counter.remaining().unwrap_or_default();
    let code = if within || hits <= left { Code::Ok } else { Code::OverLimit };
    let current_limit = descriptor.limit.map(|limit| RateLimit {
        requests_per_unit: limit.requests_per_unit,
        unit: limit.unit,
        ..RateLimit::default()
    });
    let until = counter.expires_in().unwrap_or_default();
    DescriptorStatus {
        code: code.into(),
        current_limit,
        limit_remaining: u32::try_from(left).unwrap_or(u32::MAX),
        duration_until_reset: Some(envoy_types::pb::google::protobuf::Duration {
            seconds: i64::try_from(until.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(until.subsec_nanos()).unwrap_or_default(),
        }),
        ..DescriptorStatus::default()
    }
}
