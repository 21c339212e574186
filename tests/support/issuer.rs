//! An issuer of tokens with a real socket: it gives its key set, or does anything else.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::sign;

/// What the issuer does with a connection.
#[derive(Clone)]
pub enum Answer {
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Waits, and sends these bytes.
    Late(Duration, Vec<u8>),
    /// Waits until [`Issuer::says`] something else, and does that.
    Later,
    /// Closes the connection.
    Nothing,
    /// Sends a body of so many bytes.
    Endless(usize),
}

/// An issuer whose behaviour can change while it runs.
pub struct Issuer {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Issuer {
    pub fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = Issuer {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
        };
        let (answer, asked) = (issuer.answer.clone(), issuer.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, asked) = (answer.clone(), asked.clone());
                // Whoever hangs up first is the other's business.
                thread::spawn(move || serve(&stream, &answer, &asked).ok());
            }
        });
        issuer
    }

    pub fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.requests().len()
    }

    /// The first lines of what it was asked.
    pub fn requests(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, answer: &Mutex<Answer>, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while !lines.next().transpose()?.unwrap_or_default().is_empty() {}
    asked.lock().unwrap().push(first);
    let answer = loop {
        let answer = answer.lock().unwrap().clone();
        match answer {
            Answer::Later => thread::sleep(Duration::from_millis(5)),
            answer => break answer,
        }
    };
    match answer {
        Answer::Later => Ok(()),
        Answer::Bytes(bytes) => stream.write_all(&bytes),
        Answer::Late(wait, bytes) => {
            thread::sleep(wait);
            stream.write_all(&bytes)
        }
        Answer::Nothing => Ok(()),
        Answer::Endless(length) => {
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes())?;
            let chunk = vec![b' '; 64 * 1024];
            (0..length / chunk.len()).try_for_each(|_| stream.write_all(&chunk))
        }
    }
}

/// A response as it goes over the wire.
pub fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// The key set of these test keys.
pub fn keys(names: &[&str]) -> Answer {
    Answer::Bytes(http("200 OK", &sign::jwks(names).to_string()))
}
