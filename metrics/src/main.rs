//! Prints the reference of the metrics: `cargo run --package redoubt-metrics -- docs/reference/metrics.md`, from the root of
//! the repository.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [file] if !file.starts_with('-') => std::fs::write(file, redoubt_metrics::reference::markdown())?,
        _ => return Err("usage: redoubt-metrics FILE".into()),
    }
    Ok(())
}
