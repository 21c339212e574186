//! Counters in Redis: each one a key that is gone when its window is over.

use std::time::Duration;

use limitador::counter::Counter;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{RedisResult, Script};

/// Looks at every counter and takes from all or from none, in one step that nothing comes between. A window begins
/// with the first that is counted, as Limitador's does.
const TAKE: &str = "
local hits, within, found = tonumber(ARGV[1]), 1, {}
for i, key in ipairs(KEYS) do
  local value, left = tonumber(redis.call('GET', key) or '0'), redis.call('PTTL', key)
  if value + hits > tonumber(ARGV[2 * i]) then within = 0 end
  found[i] = {value, left}
end
local answer = {within}
for i, key in ipairs(KEYS) do
  local value, left = found[i][1], found[i][2]
  if within == 1 then
    value = redis.call('INCRBY', key, hits)
    if left < 0 then redis.call('PEXPIRE', key, ARGV[2 * i + 1]) end
  end
  if left < 0 then left = tonumber(ARGV[2 * i + 1]) end
  answer[2 * i], answer[2 * i + 1] = value, left
end
return answer";

/// A Redis that does not answer is as one that is not there.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct Counts {
    connection: ConnectionManager,
    take: Script,
}

impl Counts {
    /// The connection is made anew whenever it breaks.
    pub async fn connect(url: &str) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = redis::Client::open(url)?.get_connection_manager_with_config(config).await?;
        Ok(Counts { connection, take: Script::new(TAKE) })
    }

    /// Whether every counter has room for so many; each is told what is left, and until when.
    pub async fn take(&self, counters: &mut [Counter], hits: u64) -> RedisResult<bool> {
        if counters.is_empty() {
            return Ok(true);
        }
        let mut call = self.take.prepare_invoke();
        call.arg(hits);
        for counter in counters.iter() {
            call.key(key(counter)).arg(counter.max_value()).arg(counter.window().as_millis() as u64);
        }
        let answer: Vec<i64> = call.invoke_async(&mut self.connection.clone()).await?;
        let (within, counts) = answer.split_first().unwrap_or((&0, &[]));
        for (counter, count) in counters.iter_mut().zip(counts.chunks_exact(2)) {
            let number = |index: usize| u64::try_from(count[index]).unwrap_or_default();
            counter.set_remaining(counter.max_value().saturating_sub(number(0)));
            counter.set_expires_in(Duration::from_millis(number(1)));
        }
        Ok(*within == 1)
    }
}

/// Of the limit's identity, without its size, and the values of its variables.
fn key(counter: &Counter) -> String {
    serde_json::to_string(&(counter.limit(), counter.set_variables())).unwrap_or_default()
}
