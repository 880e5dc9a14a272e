//! The floor of the benchmark: see `redoubt_e2e::bench::floor`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let installed = rustls::crypto::ring::default_provider().install_default();
    match kube::Client::try_default().await {
        Ok(client) if installed.is_ok() => {
            redoubt_e2e::bench::floor::run(client).await;
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}
