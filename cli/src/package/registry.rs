//! A registry, over HTTP.

use std::error::Error;
use std::io::Cursor;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use oci_spec::image::Descriptor;

use super::image::Packed;
use super::{MOST_BYTES_OF_A_MANIFEST, Problem, digest, fetchers};
use crate::report::printable;

/// How long a connection may take.
const CONNECT_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a registry may be silent.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// How much of what a registry says is shown, in characters.
const MOST_SAID: usize = 1000;

/// A registry, as the one who is logged in to it.
pub struct Registry {
    client: Client,
    /// Reads what `client` would read whole, however long it is.
    bounded: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    auth: RegistryAuth,
    plain_http: bool,
}

impl Registry {
    /// The registry of a reference. Over plain HTTP if that is asked for, and on this very machine if nothing is, as
    /// Docker does it; with the credentials of Docker's configuration.
    pub fn of(reference: &Reference, plain_http: Option<bool>) -> Result<Self, Problem> {
        let host = reference.resolve_registry();
        let plain_http = plain_http.unwrap_or_else(|| is_loopback(host));
        let auth = credentials(host)?;
        // Another one may be there already, which will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let config = ClientConfig {
            protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_WITHIN),
            read_timeout: Some(ANSWER_WITHIN),
            user_agent: concat!("meshfilter/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let bounded = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(ANSWER_WITHIN)
            .user_agent(config.user_agent)
            .build();
        let client = Client::try_from(config);
        let failed =
            |error: &dyn Error| Problem::Misused(format!("no connection can be made: {}", chain(error)));
        Ok(Registry {
            client: client.map_err(|error| failed(&error))?,
            bounded: bounded.map_err(|error| failed(&error))?,
            runtime: runtime.map_err(|error| failed(&error))?,
            auth,
            plain_http,
        })
    }

    /// The URL of a blob, as Envoy's `remote.http_uri` takes it.
    pub fn blob_url(&self, reference: &Reference, digest: &str) -> String {
        self.url(reference, "blobs", digest)
    }

    fn url(&self, reference: &Reference, kind: &str, name: &str) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}/{kind}/{name}", reference.resolve_registry(), reference.repository())
    }

    /// Uploads an image under a reference. `uploaded` hears of each blob: its bytes, and whether it was there already.
    pub fn push(
        &self,
        reference: &Reference,
        image: &Packed,
        mut uploaded: impl FnMut(&[u8], bool),
    ) -> Result<(), Problem> {
        let manifest = async |reference: &Reference, image: &Packed| {
            let content_type = image.media_type().to_string();
            let content_type = content_type
                .parse()
                .map_err(|_| OciDistributionError::UnsupportedMediaTypeError(content_type))?;
            self.client.push_manifest_raw(reference, image.manifest.clone(), content_type).await
        };
        let push = async {
            self.client.auth(reference, &self.auth, RegistryOperation::Push).await?;
            for blob in image.single().iter().flat_map(|image| &image.blobs) {
                let name = digest(blob);
                let there = self.client.blob_exists(reference, &name).await?;
                if !there {
                    self.client.push_blob(reference, blob.clone(), &name).await?;
                }
                uploaded(blob, there);
            }
            // A registry takes no list before what is in it.
            for image in &image.images {
                manifest(&reference.clone_with_digest(image.digest()), image).await?;
            }
            manifest(reference, image).await
        };
        self.runtime.block_on(push).map_err(|error| self.explain(reference, &error))?;
        Ok(())
    }

    /// The manifest that a reference leads to, of [`MOST_BYTES_OF_A_MANIFEST`] at most. A digest in the reference is
    /// checked.
    pub fn manifest(&self, reference: &Reference) -> Result<Vec<u8>, Problem> {
        let wrong = |why: String| Problem::Wrong(format!("{reference}: {why}"));
        let url =
            self.url(reference, "manifests", reference.digest().or(reference.tag()).unwrap_or("latest"));
        let read = self.runtime.block_on(self.read(reference, &url));
        let (status, body) = read.map_err(|error| self.explain(reference, &error))?;
        let Some(body) = body else {
            return Err(wrong(format!(
                "the manifest has more than {MOST_BYTES_OF_A_MANIFEST} bytes, and registries take no more; is this a \
                 registry, and the image one module?"
            )));
        };
        if status != 200 {
            return Err(self.explain(reference, &refusal(status, &body, url)));
        }
        match reference.digest() {
            Some(wanted) if wanted.starts_with("sha256:") && wanted != digest(&body) => Err(wrong(format!(
                "the registry sent {}, so the manifest was changed on its way; push it again",
                digest(&body)
            ))),
            Some(wanted) if !wanted.starts_with("sha256:") => Err(wrong(
                "a digest other than sha256, which the fetchers do not take; name the one of sha256"
                    .to_owned(),
            )),
            _ => Ok(body),
        }
    }

    /// What is at a URL: the answer's status, and its body unless it is longer than a manifest may be.
    async fn read(
        &self,
        reference: &Reference,
        url: &str,
    ) -> Result<(u16, Option<Vec<u8>>), OciDistributionError> {
        let token = self.client.auth(reference, &self.auth, RegistryOperation::Pull).await?;
        let mut request = self.bounded.get(url).header("accept", fetchers::MANIFESTS.join(", "));
        request = match (token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            (None, _) => request,
        };
        let mut answer = request.send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > MOST_BYTES_OF_A_MANIFEST {
                return Ok((answer.status().as_u16(), None));
            }
        }
        Ok((answer.status().as_u16(), Some(body)))
    }

    /// A blob, after [`Self::manifest`] and within the bound of [`fetchers::find`]. Its digest is checked.
    pub fn blob(&self, reference: &Reference, blob: &Descriptor) -> Result<Vec<u8>, Problem> {
        // A registry that sends more than it announced gets no room for it.
        let mut bytes = vec![0; usize::try_from(blob.size()).unwrap_or_default()];
        let digest = blob.digest().to_string();
        let pull = self.client.pull_blob(reference, digest.as_str(), Cursor::new(bytes.as_mut_slice()));
        self.runtime.block_on(pull).map_err(|error| self.explain(reference, &error))?;
        Ok(bytes)
    }

    /// What went wrong, and what would help.
    fn explain(&self, reference: &Reference, error: &OciDistributionError) -> Problem {
        let host = reference.resolve_registry();
        // It comes from anywhere, and goes to a terminal.
        let said = printable(chain(error).chars().take(MOST_SAID));
        let message = match trouble(error) {
            Trouble::Unauthorized => match &self.auth {
                RegistryAuth::Anonymous => {
                    format!(
                        "{host} wants a login, and Docker's configuration has none for it; `docker login {host}`"
                    )
                }
                _ => format!(
                    "{host} refuses the login that Docker's configuration has for it, or allows it too little; \
                     `docker login {host}` as someone who may use {}",
                    reference.repository()
                ),
            },
            Trouble::NotFound => {
                format!("{host} has no {reference}; look for a typing error, or push it first: {said}")
            }
            Trouble::Unreachable
                if said.contains("InvalidContentType") || said.contains("corrupt message") =>
            {
                format!(
                    "{host} does not speak TLS; if it is yours and plain HTTP is meant, add --plain-http: {said}"
                )
            }
            Trouble::Unreachable => {
                format!("{host} cannot be reached; is it up, and are its name and port right? {said}")
            }
            Trouble::Refused => format!("{host} refuses {reference}: {said}; ask whoever runs it"),
        };
        Problem::Misused(message)
    }
}

/// What a registry says instead of a manifest.
fn refusal(status: u16, body: &[u8], url: String) -> OciDistributionError {
    let parsed = if status == 401 { None } else { serde_json::from_slice(body).ok() };
    match parsed {
        Some(envelope) => OciDistributionError::RegistryError { envelope, url },
        None if status == 401 => OciDistributionError::UnauthorizedError { url },
        None => OciDistributionError::ServerError {
            code: status,
            url,
            message: String::from_utf8_lossy(body).into_owned(),
        },
    }
}

/// What went wrong, as far as the remedy depends on it.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    Unauthorized,
    NotFound,
    Unreachable,
    Refused,
}

fn trouble(error: &OciDistributionError) -> Trouble {
    let of_status = |status: u16| match status {
        401 | 403 => Trouble::Unauthorized,
        404 => Trouble::NotFound,
        _ => Trouble::Refused,
    };
    match error {
        OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
            Trouble::Unauthorized
        }
        OciDistributionError::ImageManifestNotFoundError(_) => Trouble::NotFound,
        OciDistributionError::ServerError { code, .. } => of_status(*code),
        OciDistributionError::RequestError(error) => {
            error.status().map_or(Trouble::Unreachable, |status| of_status(status.as_u16()))
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let codes: Vec<&OciErrorCode> = envelope.errors.iter().map(|error| &error.code).collect();
            match codes.first() {
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Trouble::Unauthorized,
                Some(
                    OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::BlobUnknown,
                ) => Trouble::NotFound,
                _ => Trouble::Refused,
            }
        }
        _ => Trouble::Refused,
    }
}

/// An error and what caused it; a client's own error says little without.
fn chain(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = error.source();
    }
    said.trim().to_owned()
}

/// Whether a registry is on this very machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What Docker's configuration has for a registry.
fn credentials(host: &str) -> Result<RegistryAuth, Problem> {
    // Docker keeps those of its own registry under the address of the first version.
    let server = match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
        _ => host,
    };
    let home = std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".docker"));
    let folder = std::env::var_os("DOCKER_CONFIG").map(std::path::PathBuf::from).or(home).unwrap_or_default();
    let file = folder.join("config.json");
    if !file.exists() {
        return Ok(RegistryAuth::Anonymous);
    }
    match docker_credential::get_credential(server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(_)) => Err(Problem::Misused(format!(
            "{}: the login for {host} is an identity token, which only Docker itself can use; log in with an access \
             token as the password: `docker login -u USER {host}`",
            file.display()
        ))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        // A store says that it has none by failing.
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if [&stdout, &stderr].iter().any(|said| said.contains("credentials not found")) =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        Err(error) => Err(Problem::Misused(format!(
            "{}: the login for {host} cannot be read: {}; `docker login {host}` writes it anew",
            file.display(),
            error.to_string().trim()
        ))),
    }
}

#[cfg(test)]
mod tests;
