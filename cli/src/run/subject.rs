//! What is run: a policy, or what import makes of a mesh's YAML.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::process;
use crate::Outcome;
use crate::bootstrap::{Prepared, Proxy};
use crate::envoy::plan::default_listen;
use crate::envoy::plugin::Module;
use crate::envoy::{Address, Bootstrap};
use crate::import::ImportOptions;
use crate::import::read::texts;
use crate::import::scope::Wanted;
use crate::input::{self, Document};

/// What is run.
pub enum Subject {
    /// A policy.
    Policy(Box<Proxy>),
    /// What is imported from these files.
    Import {
        /// As they were given.
        files: Vec<String>,
        /// With addresses that are free.
        options: Box<ImportOptions>,
        /// Whom policies have to be for.
        scope: Wanted,
    },
}

impl Subject {
    /// The same, at addresses that are free.
    ///
    /// # Errors
    /// An address that is taken.
    pub fn settled(mut self) -> Result<Self, String> {
        match &mut self {
            Subject::Policy(proxy) => {
                proxy.listen = process::free(&proxy.listen, "--listen ")?;
                proxy.admin = process::free(&proxy.admin, "--admin ")?;
            }
            Subject::Import { options, .. } => options.settle(process::free)?,
        }
        Ok(self)
    }

    /// The texts that it is made of.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(&self) -> Result<Vec<Document>, String> {
        match self {
            Subject::Policy(proxy) => Ok(vec![input::one(&proxy.policy)?]),
            Subject::Import { files, .. } => texts(files),
        }
    }

    /// The texts, of files alone: whoever waits for a pipe watches nothing.
    ///
    /// # Errors
    /// What cannot be read again and again.
    pub fn read_again(&self) -> Result<Vec<Document>, String> {
        let given = match self {
            Subject::Policy(proxy) => std::slice::from_ref(&proxy.policy),
            Subject::Import { files, .. } => files,
        };
        for given in given {
            for file in input::files(given).map_err(|error| format!("{given}: {error}"))? {
                let about = std::fs::metadata(&file).map_err(|error| format!("{file}: {error}"))?;
                if !about.is_file() {
                    return Err(format!("{file}: it is no file that can be read again and again"));
                }
            }
        }
        self.read()
    }

    /// The policy and the Envoy of texts; its further files are in the folder. What is wrong was said.
    pub fn prepare(
        &self,
        texts: &[Document],
        module: Module,
        folder: &Path,
    ) -> Result<(Value, Bootstrap), Outcome> {
        match (self, texts) {
            (Subject::Policy(proxy), [document, ..]) => {
                let Prepared { policy, plan } = proxy.prepare_from(document, module)?;
                Ok((policy, plan.bootstrap))
            }
            (Subject::Policy(_), []) => Err(Outcome::Misused),
            (Subject::Import { options, scope, .. }, texts) => options.prepare(texts, scope, module, folder),
        }
    }

    /// Where the admin interface is.
    pub fn admin(&self) -> &Address {
        match self {
            Subject::Policy(proxy) => &proxy.admin,
            Subject::Import { options, .. } => options.admin(),
        }
    }
}

/// Ports of a Gateway that nobody moved may be taken.
///
/// # Errors
/// The first that is.
pub fn are_free(bootstrap: &Bootstrap) -> Result<(), String> {
    for address in bootstrap.listeners.iter().filter_map(|listener| listener.address.as_ref()) {
        let option = match *address == default_listen() {
            true => "--listen ".to_owned(),
            false => format!("--listen {}=", address.port),
        };
        process::free(address, &option)?;
    }
    Ok(())
}

/// Where clients come, plain text first: curl needs nothing for it.
pub fn bases(bootstrap: &Bootstrap) -> Vec<String> {
    let mut plain = Vec::new();
    let mut tls = Vec::new();
    for listener in &bootstrap.listeners {
        let Some(address) = &listener.address else { continue };
        match listener.chains.iter().any(|chain| chain.tls.is_none()) {
            true => plain.push(format!("http://{address}")),
            false => tls.push(format!("https://{address}")),
        }
    }
    plain.extend(tls);
    plain
}

/// The files that are not as they were.
pub fn changed(old: &[Document], new: &[Document]) -> String {
    let differs = |one: &[Document], other: &[Document]| -> BTreeSet<String> {
        one.iter().filter(|text| !other.contains(text)).map(|text| text.file.clone()).collect()
    };
    let mut files = differs(new, old);
    files.extend(differs(old, new));
    let (verb, files) = (if files.len() > 1 { "have" } else { "has" }, Vec::from_iter(files));
    format!("{} {verb} changed", files.join(", "))
}
