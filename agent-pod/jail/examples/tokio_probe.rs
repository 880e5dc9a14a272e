//! What a tokio and hyper program needs from the jail, and what it must not get: the command that the tests start in
//! the jail. `tokio_probe DIR SIDECAR FILE`: a writable directory, the socket of a sidecar, and a writable file in a
//! directory that is not.
#![allow(clippy::print_stdout)]

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// EBADRQC: refused by the jail's filter.
const REFUSED: i32 = 56;
const ACCESS: i32 = 13;

#[tokio::main(worker_threads = 4)]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let [Some(directory), Some(sidecar), Some(file)] = [args.next(), args.next(), args.next()] else {
        return ExitCode::FAILURE;
    };
    let mut good = true;
    let mut say = |name: &str, result: Result| {
        good &= result.is_ok();
        match result {
            Ok(()) => println!("ok {name}"),
            Err(error) => println!("FAILED {name}: {error}"),
        }
    };
    say("serve http", serve(&directory).await);
    say("files", files(&directory).await);
    say("one file", std::fs::write(&file, "last words").map_err(Into::into));
    say("not its neighbour", must_fail(ACCESS, std::fs::write(file.with_extension("other"), "")));
    say("threads and timers", threads().await);
    say("signals", signals().await);
    say("sidecar", UnixStream::connect(&sidecar).await.map(drop).map_err(Into::into));
    say("no tcp listener", must_fail(REFUSED, TcpListener::bind("127.0.0.1:0").await));
    say("no tcp connection", must_fail(REFUSED, TcpStream::connect("127.0.0.1:1").await));
    say("no udp", must_fail(REFUSED, UdpSocket::bind("127.0.0.1:0").await));
    say("no unix datagram", must_fail(REFUSED, UnixDatagram::unbound()));
    say(
        "no names",
        tokio::net::lookup_host("redoubt.test:443").await.map_or(Ok(()), |_| Err("found".into())),
    );
    say("no reading", must_fail(ACCESS, std::fs::read("/etc/passwd")));
    say("no writing", must_fail(ACCESS, std::fs::write("/tmp/redoubt-jail-probe", "")));
    say(
        "no command",
        std::process::Command::new("/proc/self/exe").spawn().map_or(Ok(()), |_| Err("ran".into())),
    );
    say("nothing inherited", inherited());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The test leaves a descriptor of this file open; asking for its name is not reading it.
fn inherited() -> Result {
    let kept = |number: u32| std::fs::read_link(format!("/proc/self/fd/{number}"));
    let found = (3..64).find(|number| kept(*number).is_ok_and(|file| file == Path::new("/etc/passwd")));
    found.map_or(Ok(()), |number| Err(format!("descriptor {number}").into()))
}

fn must_fail<T>(errno: i32, result: io::Result<T>) -> Result {
    match result {
        Ok(_) => Err("got through".into()),
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A hyper server on a unix socket, asked by hyper's client, 32 at a time.
async fn serve(directory: &Path) -> Result {
    let socket = directory.join("probe.sock");
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let uid = stream.peer_cred().map(|peer| peer.uid());
            let answer = service_fn(move |_| {
                let text = format!("hello {uid:?}").repeat(10_000);
                async move { Ok::<_, hyper::Error>(hyper::Response::new(Full::new(Bytes::from(text)))) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
            );
        }
    });
    let asked: Vec<_> = (0..32).map(|_| tokio::spawn(ask(socket.clone()))).collect();
    for answer in asked {
        let length = answer.await??;
        if length < 100_000 {
            return Err(format!("{length} bytes").into());
        }
    }
    Ok(())
}

async fn ask(socket: PathBuf) -> Result<usize> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::get("/").header("host", "probe").body(Full::new(Bytes::new()))?;
    Ok(sender.send_request(request).await?.into_body().collect().await?.to_bytes().len())
}

async fn files(directory: &Path) -> Result {
    let below = directory.join("below");
    tokio::fs::create_dir(&below).await?;
    tokio::fs::write(below.join("a"), "text").await?;
    tokio::fs::rename(below.join("a"), below.join("b")).await?;
    tokio::fs::copy(below.join("b"), below.join("c")).await?;
    std::fs::OpenOptions::new().append(true).open(below.join("c"))?.set_len(2)?;
    std::fs::File::open(below.join("c"))?.sync_all()?;
    if tokio::fs::read_to_string(below.join("c")).await? != "te" || std::fs::read_dir(&below)?.count() != 2 {
        return Err("other content".into());
    }
    tokio::fs::remove_dir_all(&below).await?;
    Ok(())
}

async fn threads() -> Result {
    std::thread::available_parallelism()?;
    let slept = tokio::time::timeout(Duration::from_secs(10), tokio::time::sleep(Duration::from_millis(5)));
    slept.await?;
    let sum = tokio::task::spawn_blocking(|| {
        std::thread::spawn(|| std::collections::HashMap::from([(1, 2)]).values().sum::<i32>()).join()
    });
    if sum.await?.map_err(|_| "the thread panicked")? != 2 {
        return Err("wrong sum".into());
    }
    Ok(())
}

/// SIGTERM is how Kubernetes asks a container to end; nothing comes here, so only the handler is tried.
async fn signals() -> Result {
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let waited = tokio::time::timeout(Duration::from_millis(5), end.recv()).await;
    waited.map_or(Ok(()), |_| Err("a signal came".into()))
}
