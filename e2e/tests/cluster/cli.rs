//! `kubectl redoubt` against the real API server: what it says of a cluster, and of files before they are applied.

use redoubt_e2e::cluster::Team;

use super::cluster;

#[test]
fn the_plugin_tells_what_decides_and_whether_all_is_there() {
    let cluster = cluster();
    let namespace = "cli-live";
    let team = Team::with_agent(&cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let note = "https://echo.redoubt-e2e.svc.cluster.local:8443/v1/notes/7";
    let explain = |method: &str| {
        cluster.redoubt(&["explain", "helper", method, note, "--from", "notes", "-n", namespace])
    };
    let allowed = explain("GET").expect("allowed").stdout;
    assert!(allowed.contains("EgressPolicy/helper spec.allow[1]"), "{allowed}");
    let refused = explain("DELETE").expect_err("refused").stdout;
    assert!(refused.contains("MethodNotAllowed") && refused.contains("Tool/notes"), "{refused}");
    let why = cluster.redoubt(&["why", "helper", "-n", namespace]).expect("ready").stdout;
    assert!(why.contains("Ready"), "{why}");
    let doctor = cluster.redoubt(&["doctor"]).expect("all is there").stdout;
    assert!(doctor.contains("operator: 2 ready") && !doctor.contains("FAIL"), "{doctor}");

    // The cluster's verdict, before anything is applied.
    let folder = std::env::temp_dir().join(format!("redoubt-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let snapshot = folder.join("snapshot.yaml");
    let text = cluster.redoubt(&["snapshot"]).expect("a snapshot").stdout;
    assert!(!text.contains(&team.credential) && !text.contains("kind: Secret\n"), "{text}");
    std::fs::write(&snapshot, text).expect("written");
    let manifest = team.manifest("3-agent.yaml").expect("the manifest");
    let check = |text: &str| {
        let file = folder.join("agent.yaml");
        std::fs::write(&file, text).expect("written");
        let (file, snapshot) = (file.to_string_lossy(), snapshot.to_string_lossy());
        cluster.redoubt(&["check", "-f", &file, "--against", &snapshot])
    };
    check(&manifest).expect("what runs is accepted");
    let foreign = manifest.replace(&format!("path: agents/{namespace}/notes"), "path: prod/root");
    assert_ne!(foreign, manifest);
    let refused = check(&foreign).expect_err("refused").stdout;
    assert!(refused.contains("VaultPathNotGranted") && refused.contains("VaultConnection/"), "{refused}");
    std::fs::remove_dir_all(&folder).expect("removed");
}
