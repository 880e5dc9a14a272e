//! Both doubles in the test's own runtime.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::echo_api::{self, Credential, EchoApi};
use crate::journal::Recorded;
use crate::model_double::{self, ModelDouble, Settings};
use crate::serve::{ServeError, bind};
use crate::{control, control::Controls};

/// A running double. Dropping it ends all its connections.
pub struct Started<D> {
    /// Where the API listens.
    pub address: SocketAddr,
    /// Where the control port listens.
    pub control: SocketAddr,
    /// The double.
    pub double: Arc<D>,
    tasks: [JoinHandle<()>; 2],
}

impl<D> Drop for Started<D> {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl<D: Controls> Started<D> {
    /// What arrived so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.double.journal().page().requests
    }

    /// Calls a route of the control port without the port.
    pub fn tell(&self, method: http::Method, path: &str, body: &str) -> Result<serde_json::Value, String> {
        self.double
            .control(&method, path, body.as_bytes())
            .unwrap_or_else(|| Err(format!("no {method} {path}")))
    }
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn address(listener: &tokio::net::TcpListener) -> Result<SocketAddr, ServeError> {
    listener.local_addr().map_err(|source| ServeError::Bind { address: ANY_PORT, source })
}

/// Starts a model double; ALPN of `tls` may be `h2` and `http/1.1`.
pub async fn start_model_double(
    settings: Settings,
    tls: Option<TlsAcceptor>,
) -> Result<Started<ModelDouble>, ServeError> {
    let double = Arc::new(ModelDouble::new(settings).map_err(ServeError::Setting)?);
    let (api, port) = (bind(ANY_PORT).await?, bind(ANY_PORT).await?);
    let (api_address, control_address) = (address(&api)?, address(&port)?);
    let tasks = [
        tokio::spawn(model_double::serve(api, tls, double.clone())),
        tokio::spawn(control::serve(port, double.clone())),
    ];
    Ok(Started { address: api_address, control: control_address, double, tasks })
}

/// Starts an echo API; ALPN of `tls` must be `http/1.1` or nothing.
pub async fn start_echo_api(
    credential: Credential,
    tls: Option<TlsAcceptor>,
) -> Result<Started<EchoApi>, ServeError> {
    let double = Arc::new(EchoApi::new(credential));
    let (api, port) = (bind(ANY_PORT).await?, bind(ANY_PORT).await?);
    let (api_address, control_address) = (address(&api)?, address(&port)?);
    let tasks = [
        tokio::spawn(echo_api::serve(api, tls, double.clone())),
        tokio::spawn(control::serve(port, double.clone())),
    ];
    Ok(Started { address: api_address, control: control_address, double, tasks })
}
