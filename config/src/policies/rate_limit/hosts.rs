//! Proxies whose shared data is in other hands.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshfilter_core::host::fake::Fake;
use meshfilter_core::host::{
    BufferType, Counters, HeaderMap, Host, HttpCall, Instant, LocalReply, MapType, MetricId, MetricType,
    Result, SharedCell, Status,
};

/// Everything but clocks and shared data comes from a fake.
macro_rules! the_rest_is_a_fake {
    () => {
        fn header_map(&self, map: MapType) -> Result<HeaderMap<'static>> {
            self.fake.header_map(map)
        }
        fn set_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
            self.fake.set_header(map, name, value)
        }
        fn add_header(&self, map: MapType, name: &str, value: &[u8]) -> Result<()> {
            self.fake.add_header(map, name, value)
        }
        fn remove_header(&self, map: MapType, name: &str) -> Result<()> {
            self.fake.remove_header(map, name)
        }
        fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
            self.fake.property(path)
        }
        fn set_filter_state(&self, name: &str, value: &[u8]) -> Result<()> {
            self.fake.set_filter_state(name, value)
        }
        fn wall_clock(&self) -> Duration {
            self.fake.wall_clock()
        }
        fn random(&self) -> u64 {
            self.fake.random()
        }
        fn metric(&self, kind: MetricType, name: &str) -> Result<MetricId> {
            self.fake.metric(kind, name)
        }
        fn counters(&self) -> &Counters {
            self.fake.counters()
        }
        fn increment_now(&self, counter: MetricId, by: u64) -> Result<()> {
            self.fake.increment_now(counter, by)
        }
        fn adjust(&self, gauge: MetricId, by: i64) -> Result<()> {
            self.fake.adjust(gauge, by)
        }
        fn record(&self, metric: MetricId, value: u64) -> Result<()> {
            self.fake.record(metric, value)
        }
        fn send_local_reply(&self, reply: &LocalReply) -> Result<()> {
            self.fake.send_local_reply(reply)
        }
        fn resume_request(&self) -> Result<()> {
            self.fake.resume_request()
        }
        fn reset_stream(&self) -> Result<()> {
            self.fake.reset_stream()
        }
        fn set_effective_context(&self, context: u32) -> Result<()> {
            self.fake.set_effective_context(context)
        }
        fn set_tick_period(&self, period: Duration) -> Result<()> {
            self.fake.set_tick_period(period)
        }
        fn http_call(&self, call: &HttpCall) -> Result<u32> {
            self.fake.http_call(call)
        }
        fn buffer(&self, kind: BufferType, start: usize, max_size: usize) -> Result<Vec<u8>> {
            self.fake.buffer(kind, start, max_size)
        }
        fn call_foreign_function(&self, name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
            self.fake.call_foreign_function(name, arguments)
        }
        fn environment(&self, name: &str) -> Option<String> {
            self.fake.environment(name)
        }
    };
}

/// A proxy that refuses shared data, as one does that restricts the plugin's capabilities.
#[derive(Default)]
pub struct Broken {
    fake: Fake,
    pub works: Cell<bool>,
}

impl Broken {
    fn if_it_works<T>(&self, call: impl FnOnce(&Fake) -> Result<T>) -> Result<T> {
        if self.works.get() { call(&self.fake) } else { Err(Status::InternalFailure) }
    }
}

impl Host for Broken {
    the_rest_is_a_fake! {}

    fn now(&self) -> Instant {
        self.fake.now()
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        self.if_it_works(|fake| fake.shared_data(key))
    }

    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        self.if_it_works(|fake| fake.shared_data_swap(key, value, cas))
    }

    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()> {
        self.if_it_works(|fake| fake.shared_data_create(key, value))
    }
}

/// A proxy that lets another worker come between the reading of a value and its writing.
pub struct Interrupted<'a> {
    pub fake: &'a Fake,
    /// Run before a write, and told how many there were.
    pub other: &'a dyn Fn(u64),
    pub writes: Cell<u64>,
}

impl Interrupted<'_> {
    fn interrupt(&self) {
        self.writes.set(self.writes.get() + 1);
        (self.other)(self.writes.get());
    }
}

impl Host for Interrupted<'_> {
    the_rest_is_a_fake! {}

    fn now(&self) -> Instant {
        self.fake.now()
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        self.fake.shared_data(key)
    }

    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        self.interrupt();
        self.fake.shared_data_swap(key, value, cas)
    }

    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()> {
        self.interrupt();
        self.fake.shared_data_create(key, value)
    }
}

/// A proxy whose workers have memory in common.
#[derive(Default)]
pub struct Celled {
    pub fake: Fake,
    pub cells: Mutex<HashMap<String, Arc<SharedCell>>>,
}

impl Host for Celled {
    the_rest_is_a_fake! {}

    fn now(&self) -> Instant {
        self.fake.now()
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        self.fake.shared_data(key)
    }

    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        self.fake.shared_data_swap(key, value, cas)
    }

    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()> {
        self.fake.shared_data_create(key, value)
    }

    fn shared_cell(&self, name: &str) -> Option<Arc<SharedCell>> {
        Some(self.cells.lock().unwrap().entry(name.to_owned()).or_default().clone())
    }
}

/// What the workers of a process share.
pub type Shared = Arc<Mutex<HashMap<String, (Vec<u8>, u32)>>>;

/// One worker of a process, on its own thread: real time, and shared data behind one mutex, as in Envoy.
pub struct Worker {
    fake: Fake,
    shared: Shared,
    started: std::time::Instant,
}

impl Worker {
    pub fn new(shared: Shared, started: std::time::Instant) -> Self {
        Worker { fake: Fake::new(), shared, started }
    }
}

impl Host for Worker {
    the_rest_is_a_fake! {}

    fn now(&self) -> Instant {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap()
    }

    fn shared_data(&self, key: &str) -> Result<(Vec<u8>, u32)> {
        self.shared.lock().unwrap().get(key).cloned().ok_or(Status::NotFound)
    }

    fn shared_data_swap(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        let mut shared = self.shared.lock().unwrap();
        let next = match shared.get(key) {
            Some((_, current)) if *current != cas => return Err(Status::CasMismatch),
            Some((_, current)) => current + 1,
            None => 1,
        };
        shared.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }

    fn shared_data_create(&self, key: &str, value: &[u8]) -> Result<()> {
        self.shared_data_swap(key, value, u32::MAX)
    }
}
