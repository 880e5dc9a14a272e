//! The attacker in his strong form: a program that runs in place of the brain, in the same jail, under the same user, behind
//! the same sockets, and does what a test tells it to.
//!
//! It speaks the agent's HTTP channel: the last message of a chat request is one [`Order`] as JSON, the answer's text is
//! what came of it. It is deliberately simple and trusts nobody to be nice: no async runtime, no HTTP library.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most bytes read from anywhere at once.
const LIMIT: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// What to try.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Order {
    /// Open a socket of every family and type.
    Sockets,
    /// Connect over TCP.
    Connect { address: SocketAddr },
    /// Send a datagram.
    Datagram { address: SocketAddr },
    /// Write `text` to a unix socket as it is and read what comes back.
    Raw { socket: PathBuf, text: String },
    /// The same, `count` times, and only count the status lines.
    Repeat { socket: PathBuf, text: String, count: u32 },
    /// Read a file.
    Read { path: PathBuf },
    /// List every file below a folder that can be listed.
    List { path: PathBuf },
    /// Write a file.
    Write { path: PathBuf },
    /// Start a program.
    Execute { program: PathBuf },
    /// The environment and the command line.
    Environment,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let listen =
        arguments.iter().skip_while(|a| *a != "--listen").nth(1).ok_or("--listen SOCKET is missing")?;
    let listener = UnixListener::bind(listen)?;
    std::fs::set_permissions(listen, std::fs::Permissions::from_mode(0o666))?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            let _ = serve(stream);
        });
    }
    Ok(())
}

fn serve(mut stream: UnixStream) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    while let Some(body) = read_request(&mut stream)? {
        let content = match last_message(&body).and_then(|text| Ok(serde_json::from_str::<Order>(&text)?)) {
            Ok(order) => {
                obey(order).unwrap_or_else(|error| json!({"succeeded": false, "error": error.to_string()}))
            }
            Err(error) => json!({"misunderstood": error.to_string()}),
        };
        let streamed = serde_json::from_slice::<Value>(&body)
            .is_ok_and(|request| request.get("stream") == Some(&Value::Bool(true)));
        let (kind, answer) = if streamed {
            let chunk = |delta: Value, finish: Value| {
                let chunk = json!({"id": "hostile", "object": "chat.completion.chunk", "created": 0, "model": "hostile",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
                format!("data: {chunk}\n\n")
            };
            let said = chunk(json!({"role": "assistant", "content": content.to_string()}), Value::Null);
            ("text/event-stream", format!("{said}{}data: [DONE]\n\n", chunk(json!({}), json!("stop"))))
        } else {
            let message = json!({"role": "assistant", "content": content.to_string()});
            let completion = json!({"id": "hostile", "object": "chat.completion", "created": 0, "model": "hostile",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}]});
            ("application/json", completion.to_string())
        };
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{answer}"
        )?;
    }
    Ok(())
}

/// The body of the next request, or nothing at the end of the connection.
fn read_request(stream: &mut UnixStream) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
    let mut body = Vec::new();
    if header("transfer-encoding:").is_some() {
        while !body.ends_with(b"\r\n0\r\n\r\n") {
            if stream.read(&mut byte)? == 0 {
                break;
            }
            body.extend_from_slice(&byte);
        }
        body = chunks(&body);
    } else if let Some(length) = header("content-length:") {
        body.resize(length.parse()?, 0);
        stream.read_exact(&mut body)?;
    }
    Ok(Some(body))
}

fn chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (size, tail) = rest.split_at(end);
        let size = usize::from_str_radix(&String::from_utf8_lossy(size), 16).unwrap_or(0);
        let Some(chunk) = tail.get(2..2 + size) else { break };
        whole.extend_from_slice(chunk);
        rest = tail.get(size + 4..).unwrap_or_default();
    }
    whole
}

fn last_message(body: &[u8]) -> Result<String, Box<dyn std::error::Error>> {
    let request: Value = serde_json::from_slice(body)?;
    let messages = request.get("messages").and_then(Value::as_array).ok_or("no messages")?;
    let content = messages.last().and_then(|m| m.get("content")).and_then(Value::as_str);
    Ok(content.ok_or("the last message has no text")?.to_owned())
}

fn obey(order: Order) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(match order {
        Order::Sockets => sockets(),
        Order::Connect { address } => {
            TcpStream::connect_timeout(&address, PATIENCE)?;
            json!({"succeeded": true})
        }
        Order::Datagram { address } => {
            UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", address)?;
            json!({"succeeded": true})
        }
        Order::Raw { socket, text } => json!({"succeeded": true, "answer": raw(&socket, &text)?}),
        Order::Repeat { socket, text, count } => {
            let mut statuses = BTreeMap::<String, u32>::new();
            for _ in 0..count {
                let answer = raw(&socket, &text)?;
                *statuses.entry(answer.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
            }
            json!({"succeeded": true, "statuses": statuses})
        }
        Order::Read { path } => {
            let mut content = Vec::new();
            std::fs::File::open(path)?.take(LIMIT).read_to_end(&mut content)?;
            json!({"succeeded": true, "content": String::from_utf8_lossy(&content)})
        }
        Order::List { path } => {
            let mut found = Vec::new();
            list(&path, &mut found, 0);
            json!({"succeeded": !found.is_empty(), "files": found})
        }
        Order::Write { path } => {
            std::fs::write(path, "x")?;
            json!({"succeeded": true})
        }
        Order::Execute { program } => {
            let output = std::process::Command::new(program).output()?;
            json!({"succeeded": true, "status": output.status.to_string()})
        }
        Order::Environment => {
            let variables: BTreeMap<String, String> = std::env::vars_os()
                .map(|(k, v)| (k.to_string_lossy().into(), v.to_string_lossy().into()))
                .collect();
            json!({"succeeded": true, "environment": variables, "arguments": std::env::args().collect::<Vec<_>>()})
        }
    })
}

fn sockets() -> Value {
    let families = [
        ("inet", AddressFamily::INET),
        ("inet6", AddressFamily::INET6),
        ("netlink", AddressFamily::NETLINK),
        ("packet", AddressFamily::PACKET),
        ("vsock", AddressFamily::from_raw(40)),
    ];
    let types = [
        ("stream", SocketType::STREAM),
        ("datagram", SocketType::DGRAM),
        ("raw", SocketType::RAW),
        ("seqpacket", SocketType::SEQPACKET),
    ];
    let mut opened = Vec::new();
    let mut refused = BTreeMap::new();
    let mut attempt = |name: String, family, kind, protocol: Option<Protocol>| match socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC,
        protocol,
    ) {
        Ok(_) => opened.push(name),
        Err(error) => {
            refused.insert(name, error.to_string());
        }
    };
    for (family_name, family) in families {
        for (type_name, kind) in types {
            attempt(format!("{family_name} {type_name}"), family, kind, None);
        }
    }
    attempt("inet stream mptcp".into(), AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP));
    json!({"succeeded": !opened.is_empty(), "opened": opened, "refused": refused})
}

fn raw(socket: &Path, text: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    let read = stream.take(LIMIT).read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn list(folder: &Path, found: &mut Vec<String>, depth: u32) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if found.len() >= 2000 {
            return;
        }
        let path = entry.path();
        found.push(path.display().to_string());
        if depth < 6 && entry.file_type().is_ok_and(|t| t.is_dir()) {
            list(&path, found, depth + 1);
        }
    }
}
