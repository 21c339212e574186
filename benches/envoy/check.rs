//! That a configuration does what it is there for, before it is measured.

use crate::configurations::{Configuration, Probe};
use crate::load::{Arrival, Load, Response};
use crate::proxy::{Processors, Proxy};
use crate::requests::{Paths, Request, Wallet};

/// Sends every probe, and a few requests against the limit where there is one.
pub fn check(
    load: &mut Load,
    proxy: &Proxy,
    configuration: &Configuration,
    wallet: &Wallet,
    processors: &Processors,
) -> Result<(), String> {
    let wrong = |what: &dyn std::fmt::Debug, error: String| {
        format!("{}, {what:?}: {error}\n{}", configuration.name, proxy.envoy.log())
    };
    for probe in &configuration.probes {
        let request = request(*probe, configuration, wallet.good());
        load.exchange(proxy.address, &request.bytes())
            .and_then(|(response, arrival)| judge(*probe, &response, arrival))
            .map_err(|error| wrong(probe, error))?;
    }
    if let Some(limited) = &configuration.limited {
        let upstreams = load.upstreams().map_err(|error| error.to_string())?;
        let proxy = Proxy::start(configuration, limited, &upstreams, processors)?;
        let request = Request::new(Some(wallet.good())).bytes();
        for expected in [200, 200, 429] {
            let (response, _) =
                load.exchange(proxy.address, &request).map_err(|error| wrong(&"limit", error))?;
            let body = if expected == 200 { "ok" } else { "local_rate_limited" };
            answers(&response, expected, body).map_err(|error| wrong(&"limit", error))?;
        }
    }
    Ok(())
}

fn request(probe: Probe, configuration: &Configuration, token: &str) -> Request {
    let mut good = Request::new(Some(token));
    if let Paths::Services(_) = configuration.traffic.paths {
        good.path = "/service-0/orders".to_owned();
    }
    match probe {
        Probe::Good | Probe::Identified => good,
        Probe::Canary => good.with("canary", "true"),
        Probe::NoToken => Request::new(None),
        // The last character of the payload's part is the signature's business.
        Probe::BadToken => good.with("authorization", &format!("Bearer {}", tampered(token))),
        Probe::NoRole => good.with("user-role", "guest"),
        Probe::NoSuchService => Request { path: "/service-none/orders".to_owned(), ..good },
        Probe::Faulty => good.with("test-fault", "true"),
    }
}

/// The token with another first byte of the signature.
fn tampered(token: &str) -> String {
    let (text, signature) = token.rsplit_once('.').unwrap_or_default();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{text}.{first}{}", signature.get(1..).unwrap_or_default())
}

fn judge(probe: Probe, response: &Response, arrival: Option<Arrival>) -> Result<(), String> {
    let (status, body) = match probe {
        Probe::Good | Probe::Identified | Probe::Canary => (200, "ok"),
        Probe::NoToken => (401, "Jwt is missing"),
        Probe::BadToken => (401, "Jwt verification fails"),
        Probe::NoRole | Probe::NoSuchService => (403, "RBAC: access denied"),
        Probe::Faulty => (503, "fault filter abort"),
    };
    answers(response, status, body)?;
    if status != 200 {
        return match arrival {
            None => Ok(()),
            Some(arrival) => Err(format!("was refused, and sent on: {arrival:?}")),
        };
    }
    let arrival = arrival.ok_or("no upstream got the request")?;
    let head = String::from_utf8_lossy(&arrival.head).to_ascii_lowercase();
    match probe {
        Probe::Canary if arrival.upstream != 1 => Err("the request is not at the canary".to_owned()),
        Probe::Identified if !head.contains("\r\nx-user: user-") || head.contains("\r\nauthorization:") => {
            Err(format!("the upstream needs x-user and no token: {head}"))
        }
        _ => Ok(()),
    }
}

/// Compares an answer.
fn answers(response: &Response, status: u16, body: &str) -> Result<(), String> {
    match response.status == status && response.body == body.as_bytes() {
        true => Ok(()),
        false => Err(format!(
            "answered {} {:?}, should be {status} {body:?}",
            response.status,
            String::from_utf8_lossy(&response.body)
        )),
    }
}
