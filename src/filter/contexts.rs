use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::{Flow, Root, Stream};
use crate::host::{Host, NumberHash};

/// The roots and the streams of one VM, by the numbers that the proxy calls them.
///
/// Nothing is borrowed while a callback runs, and a number that nobody knows does nothing: no order of callbacks can
/// make it panic.
pub struct Contexts {
    host: Rc<dyn Host>,
    roots: RefCell<BTreeMap<u32, Rc<Root>>>,
    streams: RefCell<HashMap<u32, Open, NumberHash>>,
}

#[derive(Clone)]
struct Open {
    root: Rc<Root>,
    stream: Rc<RefCell<Stream>>,
}

impl Contexts {
    /// None yet.
    pub fn new(host: Rc<dyn Host>) -> Self {
        Contexts { host, roots: RefCell::default(), streams: RefCell::default() }
    }

    /// Begins a stream of a root, or a root where `root` is 0.
    pub fn create(&self, context: u32, root: u32) {
        if root == 0 {
            let new = Root::new(self.host.clone(), context);
            self.roots.borrow_mut().insert(context, new);
        } else if let Some(root) = self.root(root) {
            let stream = root.open(context);
            self.streams.borrow_mut().insert(context, Open { root, stream });
        } else {
            log::error!("meshfilter: the proxy opens a stream of context {root}, which is none");
        }
    }

    /// Reads a root's configuration; `false` refuses it.
    pub fn on_configure(&self, root: u32) -> bool {
        self.root(root).is_some_and(|root| root.on_configure())
    }

    /// The time that a root asked for has come.
    pub fn on_tick(&self, root: u32) {
        if let Some(root) = self.root(root) {
            root.on_tick();
        }
    }

    /// A callout of a root was answered.
    pub fn on_http_call_response(&self, root: u32, token: u32) {
        if let Some(root) = self.root(root) {
            root.on_http_call_response(token);
        }
    }

    /// A request's headers are there.
    pub fn on_request_headers(&self, stream: u32) -> Flow {
        match self.stream(stream) {
            Some(Open { root, stream }) => root.on_request_headers(&stream),
            // Of no policy that is known, so nothing lets it pass.
            None => {
                log::error!("meshfilter: the proxy asks about stream {stream}, which it never opened");
                super::stream::refuse(&*self.host);
                Flow::Pause
            }
        }
    }

    /// A response's headers are there, the upstream's or a local reply's.
    pub fn on_response_headers(&self, stream: u32) {
        if let Some(Open { root, stream }) = self.stream(stream) {
            root.on_response_headers(&stream);
        }
    }

    /// A stream is over.
    pub fn on_log(&self, stream: u32) {
        if let Some(Open { root, stream }) = self.stream(stream) {
            root.on_log(&stream);
        }
    }

    /// A stream is gone, perhaps while it waited, or a root.
    pub fn delete(&self, context: u32) {
        let open = self.streams.borrow_mut().remove(&context);
        if let Some(Open { root, stream }) = open {
            root.close(&stream);
            return;
        }
        let root = self.roots.borrow_mut().remove(&context);
        if let Some(root) = root {
            root.on_delete();
        }
    }

    fn root(&self, context: u32) -> Option<Rc<Root>> {
        self.roots.borrow().get(&context).cloned()
    }

    fn stream(&self, context: u32) -> Option<Open> {
        self.streams.borrow().get(&context).cloned()
    }
}
