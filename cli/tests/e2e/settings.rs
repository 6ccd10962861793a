//! Settings of a file, of variables and of flags, seen by what the commands do.

use crate::support::{Cluster, Daemon, Said, guest, offshoot, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of settings beside others of the test.
fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

fn with_config(directory: &Path, config: &Path, words: &[&str]) -> Command {
    let mut command = offshoot(directory);
    command.env("OFFSHOOT_CONFIG", config).args(words);
    command
}

/// One key of `offshoot settings --json`: its value and who says so.
fn setting(mut command: Command, key: &str) -> (Value, Value) {
    command.arg("--json");
    let rows: Vec<Value> = serde_json::from_str(&run(command).ok()).unwrap();
    let row = rows.into_iter().find(|row| row["key"] == key).unwrap();
    (row["value"].clone(), row["file"].clone())
}

#[test]
fn a_master_listens_to_flags_before_variables_before_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[master]\nlisten = \"127.0.0.1:0\"\ndir = \"of-file\"\n";
    let config = write(directory.path(), "etc/offshoot.toml", text);
    let flag = directory.path().join("of-flag");
    let levels = [
        (None, None, directory.path().join("etc/of-file")),
        (Some("of-variable"), None, directory.path().join("of-variable")),
        (Some("of-variable"), Some(&flag), flag.clone()),
    ];
    for (variable, flag, expected) in levels {
        let mut command = with_config(directory.path(), &config, &["master"]);
        if let Some(name) = variable {
            command.env("OFFSHOOT_MASTER_DIR", directory.path().join(name));
        }
        if let Some(path) = flag {
            command.arg("--dir").arg(path);
        }
        let (mut master, line) = Daemon::start(command, "the first credential is ");
        let expected = expected.join("admin.credential");
        assert!(line.ends_with(&format!(" {}", expected.display())), "{line}");
        assert_eq!(master.terminate(), Some(0));
    }
}

#[test]
fn workers_jobs_and_questions_listen_to_flags_before_variables_before_the_file() {
    let cluster = Cluster::start(0, 1);
    let directory = cluster.directory.path();
    let address = &cluster.address;
    let text = format!(
        "[client]\nmaster = \"{address}\"\ncredential = \"master/admin.credential\"\n\
         [worker]\nmaster = \"{address}\"\ncores = 1\nmemory = \"4GiB\"\n\
         [submit]\nname = \"of-file\"\n[submit.conf]\nmax-result-size = 1\n"
    );
    let config = write(directory, "offshoot.toml", &text);
    let command = |words: &[&str]| with_config(directory, &config, words);

    let mut workers = Vec::new();
    for (variable, flag) in [(None, None), (Some("2"), None), (Some("2"), Some("3"))] {
        let mut worker = command(&["worker", "--dir"]);
        worker.arg(directory.join(format!("worker-{}", workers.len())));
        worker.env("OFFSHOOT_TOKEN", cluster.token());
        variable.map(|cores| worker.env("OFFSHOOT_WORKER_CORES", cores));
        flag.map(|cores| worker.args(["--cores", cores]));
        workers.push(Daemon::start(worker, " registered with ").0);
    }
    let rows: Vec<Value> =
        serde_json::from_str(&run(command(&["workers", "--json"])).ok()).unwrap();
    let mut cores: Vec<_> = rows.iter().map(|row| row["cores"].as_u64().unwrap()).collect();
    cores.sort_unstable();
    assert_eq!(cores, [1, 2, 3]);

    // One byte is too little for the results.
    let submit = |variables: &[(&str, &str)], flags: &[&str]| -> Said {
        let mut submit = command(&["submit"]);
        submit.envs(variables.iter().copied()).args(flags);
        submit.arg(guest("pi")).args(["1000", "2"]);
        run(submit)
    };
    let large = ("OFFSHOOT_SUBMIT_CONF_MAX_RESULT_SIZE", "1GiB");
    let name = ("OFFSHOOT_SUBMIT_NAME", "of-variable");
    submit(&[], &[]).failed(1, "max-result-size");
    submit(&[large, name], &[]).ok();
    let flags = ["--name", "of-flag", "--conf", "spark.driver.maxResultSize=1"];
    submit(&[large, name], &flags).failed(1, "max-result-size");
    let names: Vec<_> = cluster.list("apps").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["of-file", "of-variable", "of-flag"]);

    let mut wrong = command(&["workers"]);
    wrong.env("OFFSHOOT_CREDENTIAL", directory.join("none"));
    run(wrong).failed(2, "none");
    let mut right = command(&["workers", "--credential"]);
    right.arg(directory.join("master/admin.credential"));
    right.env("OFFSHOOT_CREDENTIAL", directory.join("none"));
    run(right).ok();
}

#[test]
fn orders_to_the_master_reach_it_by_flags_before_variables_before_the_file() {
    let cluster = Cluster::start(1, 1);
    let directory = cluster.directory.path();
    let credential = directory.join("master/admin.credential");
    let text = format!("[client]\nmaster = \"{}\"\ncredential = \"none\"\n", cluster.address);
    let right = write(directory, "right.toml", &text.replace("none", "master/admin.credential"));
    let wrong = write(directory, "wrong.toml", &text);
    let worker = cluster.list("workers")[0]["id"].as_str().unwrap().to_owned();
    let drain = ["drain", worker.as_str(), "--no-wait", "--within=5s"];
    for words in [&["tenant", "add", "ada", "--weight=2"][..], &["tenant", "list"], &drain] {
        let order = |config: &Path, variable: Option<&str>, flag: Option<&Path>| {
            let mut command = with_config(directory, config, words);
            command.current_dir(directory);
            variable.map(|name| command.env("OFFSHOOT_CREDENTIAL", directory.join(name)));
            flag.map(|path| command.arg("--credential").arg(path));
            run(command)
        };
        order(&wrong, None, None).failed(2, "none");
        order(&right, Some("of-variable"), None).failed(2, "of-variable");
        order(&wrong, Some("of-variable"), Some(&credential)).ok();
    }
    let mut named = offshoot(directory);
    named.args(["tenant", "list", "--json", "--config"]).arg(&right);
    let rows: Value = serde_json::from_str(&run(named).ok()).unwrap();
    assert_eq!((&rows[0]["name"], &rows[0]["weight"]), (&"ada".into(), &2.into()));
}

#[test]
fn a_misspelt_key_stops_everything_before_it_has_started() {
    let directory = tempfile::tempdir().unwrap();
    let config = write(directory.path(), "offshoot.toml", "# Ours.\n[worker]\ncoers = 2\n");
    let (master, worker) = (directory.path().join("m"), directory.path().join("w"));
    let (m, w) = (master.to_str().unwrap(), worker.to_str().unwrap());
    let job = guest("pi");
    let commands: [&[&str]; 5] = [
        &["master", "--listen", "127.0.0.1:0", "--dir", m],
        &["worker", "--master", "127.0.0.1:1", "--dir", w],
        &["submit", job.to_str().unwrap(), "1000", "2"],
        &["workers"],
        &["settings"],
    ];
    let expected = format!(
        "offshoot: {}:3: [worker] coers: no such key; did you mean cores?\n",
        config.display()
    );
    for words in commands {
        let said = run(with_config(directory.path(), &config, words));
        said.failed(2, "coers");
        assert_eq!(said.err, expected, "{words:?}");
    }
    let mut misspelt = offshoot(directory.path());
    misspelt.args(commands[2]).env("OFFSHOOT_SUBMIT_EXECUTOR_COERS", "1");
    run(misspelt).failed(2, "did you mean OFFSHOOT_SUBMIT_EXECUTOR_CORES?");
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, [config]);
}

#[test]
fn the_file_of_a_directory_does_not_choose_the_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[submit]\nname = \"a\"\n[client]\nmaster = \"127.0.0.1:1\"\n";
    let config = write(directory.path(), "offshoot.toml", text);
    for words in [&["workers"][..], &["submit", "job.wasm"]] {
        let mut command = offshoot(directory.path());
        command.env_remove("OFFSHOOT_CONFIG").current_dir(directory.path()).args(words);
        run(command).failed(2, "offshoot.toml:4: [client] master: a file that is found in the");
    }
    let said = run(with_config(directory.path(), &config, &["settings"]));
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn what_only_the_command_can_judge_is_told_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = offshoot(directory.path());
    command.args(["worker", "--master", "127.0.0.1:1"]).env("OFFSHOOT_TOKEN", "no-token");
    run(command).failed(2, "OFFSHOOT_TOKEN: ");
    let config = write(directory.path(), "offshoot.toml", "[submit]\nwait = true\n");
    let submit = |flags: &[&str]| {
        let mut command = with_config(directory.path(), &config, &["submit"]);
        command.args(flags).arg(guest("pi")).args(["1000", "2"]);
        run(command)
    };
    submit(&[]).failed(2, "offshoot.toml:2: [submit] wait: a cluster in this process");
    submit(&["--wait=false"]).ok();
}

#[test]
fn the_file_is_the_first_that_is_named_or_found() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    let users = write(top, "config/offshoot/offshoot.toml", "[worker]\ncores = 1\n");
    let here = write(top, "here/offshoot.toml", "[worker]\ncores = 2\n");
    let variable = write(top, "variable.toml", "[worker]\ncores = 3\n");
    let flag = write(top, "flag.toml", "[worker]\ncores = 4\n");
    let settings = |directory: &Path| {
        let mut command = offshoot(top);
        command.current_dir(directory).arg("settings");
        command
    };
    let cores = |command| setting(command, "worker.cores");
    let shown = |path: &Path| Value::from(path.to_str().unwrap());
    assert_eq!(cores(settings(top)), ("1".into(), shown(&users)));
    assert_eq!(cores(settings(&top.join("here"))), ("2".into(), "offshoot.toml".into()));
    let mut named = settings(&top.join("here"));
    named.env("OFFSHOOT_CONFIG", &variable);
    assert_eq!(cores(named), ("3".into(), shown(&variable)));
    let mut named = settings(&top.join("here"));
    named.env("OFFSHOOT_CONFIG", &variable).arg("--config").arg(&flag);
    assert_eq!(cores(named), ("4".into(), shown(&flag)));
    fs::set_permissions(&here, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = "offshoot.toml: everybody may write this file; name it with --config";
    run(settings(&top.join("here"))).failed(2, refused);
}

#[test]
fn settings_are_those_that_a_command_would_have_and_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = offshoot(directory.path());
    command.env("OFFSHOOT_TOKEN", "very-secret").env("OFFSHOOT_WORKER_CORES", "7");
    command.args(["settings", "submit", "--conf", "spark.task.cpus=2", "job.wasm"]);
    let text = run(command).ok();
    assert!(!text.contains("very-secret"), "{text}");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [
        ["worker.token", "(set)", "OFFSHOOT_TOKEN"],
        ["worker.cores", "7", "OFFSHOOT_WORKER_CORES"],
        ["submit.conf.task-cores", "2", "flag"],
        ["submit.executor-memory", "1GiB", "default"],
    ] {
        assert!(rows.iter().any(|found| found[..] == row), "no {row:?} in {text}");
    }
}
