//! Shows on a cluster what an agent can and cannot do. `e2e/quickstart` runs it after `e2e/deploy`.

#![allow(clippy::print_stdout, reason = "it talks to a person")]

use std::time::Instant;

use redoubt_e2e::cluster::{Cluster, Team};
use redoubt_e2e::demo::STEPS;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::from_environment()?;
    let team = Team::of_the_quickstart(&cluster)?;
    for (number, step) in (1..).zip(STEPS) {
        let began = Instant::now();
        println!("\n{number}. {}", step.title);
        for line in (step.show)(&team).map_err(|error| format!("step {number} did not show it: {error}"))? {
            println!("   {line}");
        }
        println!("   ({:.1} s)", began.elapsed().as_secs_f32());
    }
    Ok(())
}
