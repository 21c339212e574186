//! Asks Envoy's admin interface, with a bound on everything: how long it may take, and how much it may say.

use std::error::Error;
use std::str::FromStr;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use reqwest::{Client, Response, Url};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::metric::{FILTER, LABELLED};

/// How long all answers may take together.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The longest list of statistics that is read: some hundred thousand series.
pub const MAX_STATS: usize = 32 * 1024 * 1024;

/// The longest answer about the server.
pub const MAX_INFO: usize = 1024 * 1024;

/// Where an admin interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As it was given.
    pub shown: String,
    info: Url,
    stats: Url,
    labelled: Url,
}

impl FromStr for Address {
    type Err = String;

    /// `http://HOST:PORT`, `HOST:PORT`, or with a path before the interface's own, as `kubectl proxy` has one.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no address of an admin interface; use one such as http://127.0.0.1:9901");
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let base = Url::parse(&whole).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || base.query().is_some() {
            return Err(wrong());
        }
        let at = |path: &str| {
            let mut url = base.clone();
            url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
            url
        };
        let mut stats = at("/stats");
        stats
            .query_pairs_mut()
            .append_pair("format", "json")
            .append_pair("histogram_buckets", "cumulative")
            .append_pair("filter", FILTER);
        let mut labelled = at("/stats/prometheus");
        labelled.query_pairs_mut().append_pair("filter", LABELLED);
        Ok(Address { shown: text.to_owned(), info: at("/server_info"), stats, labelled })
    }
}

/// What came of asking an Envoy.
#[derive(Debug)]
pub struct Asked {
    /// Which one.
    pub index: usize,
    /// When it answered, in seconds since the beginning.
    pub at: f64,
    /// What it says about itself, its statistics, and those with labels; or why there are none.
    pub answers: Result<[Vec<u8>; 3], String>,
}

impl Asked {
    /// The answers, or why there are none.
    pub fn all(&self) -> Result<[&[u8]; 3], String> {
        match &self.answers {
            Ok(answers) => Ok(answers.each_ref().map(Vec::as_slice)),
            Err(error) => Err(error.clone()),
        }
    }
}

/// Asks all of them, each by itself, again and again until nobody listens any more.
pub async fn watch<T: From<Asked>>(
    addresses: &[Address],
    every: Duration,
    began: Instant,
    send: &SyncSender<T>,
) {
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            for index in 0..addresses.len() {
                let _ = send.send(Asked { index, at: 0.0, answers: Err(error.clone()) }.into());
            }
            return;
        }
    };
    let client = &client;
    let each = addresses.iter().enumerate().map(|(index, address)| async move {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if send.send(ask(client, index, address, began).await.into()).is_err() {
                return;
            }
        }
    });
    all(each).await;
}

/// Asks all of them once, at the same time.
pub async fn ask_all(addresses: &[Address], began: Instant) -> Result<Vec<Asked>, String> {
    let client = client()?;
    let client = &client;
    let each = addresses.iter().enumerate().map(|(index, address)| ask(client, index, address, began));
    Ok(all(each).await)
}

/// Waits for all of these at the same time, in one task.
async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    use std::task::Poll;
    let mut waiting: Vec<(std::pin::Pin<Box<_>>, Option<T>)> =
        futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut open = false;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *done = Some(value),
                    Poll::Pending => open = true,
                }
            }
        }
        if open { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

fn client() -> Result<Client, String> {
    // The client asks for one even where it never speaks TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    client.map_err(|error| why(&error))
}

async fn ask(client: &Client, index: usize, address: &Address, began: Instant) -> Asked {
    let mut at = began.elapsed();
    let answers = async {
        let info = read(get(client, &address.info).await?, MAX_INFO).await?;
        let stats = get(client, &address.stats).await?;
        // Envoy puts the answer together at once; how long it takes to bring it here says nothing.
        at = began.elapsed();
        let stats = read(stats, MAX_STATS).await?;
        Ok([info, stats, read(get(client, &address.labelled).await?, MAX_STATS).await?])
    };
    let answers = match timeout(PATIENCE, answers).await {
        Ok(answers) => answers,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    if answers.is_err() {
        at = began.elapsed();
    }
    Asked { index, at: at.as_secs_f64(), answers }
}

async fn get(client: &Client, url: &Url) -> Result<Response, String> {
    let answer = client.get(url.clone()).send().await.map_err(|error| why(&error))?;
    match answer.status() {
        status if status.is_success() => Ok(answer),
        status => Err(format!("it answers {} to {}", status.as_u16(), url.path())),
    }
}

async fn read(mut answer: Response, at_most: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| why(&error))? {
        if body.len().saturating_add(chunk.len()) > at_most {
            return Err(format!("its answer is longer than {} MiB", at_most / 1024 / 1024));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What is at the bottom of an error.
fn why(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    crate::report::printable(cause.to_string().chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_have_a_path_before_the_interfaces_own() {
        for (text, info) in [
            ("127.0.0.1:9901", "http://127.0.0.1:9901/server_info"),
            ("http://localhost:9901/", "http://localhost:9901/server_info"),
            ("[::1]:9901", "http://[::1]:9901/server_info"),
            (
                "http://127.0.0.1:8001/api/v1/namespaces/a/pods/b:9901/proxy",
                "http://127.0.0.1:8001/api/v1/namespaces/a/pods/b:9901/proxy/server_info",
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.shown.as_str(), address.info.as_str()), (text, info));
            let labelled = info.replace("server_info", "stats/prometheus?filter=");
            assert!(address.labelled.as_str().starts_with(&labelled), "{}", address.labelled);
            assert!(
                address.stats.as_str().contains("/stats?format=json&histogram_buckets=cumulative&filter=")
            );
        }
        for text in ["", "ftp://a", "http://", "a b", "http://a/?x"] {
            assert!(text.parse::<Address>().unwrap_err().contains("use one such as"), "{text}");
        }
    }
}
