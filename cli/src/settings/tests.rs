//! What files and variables say, in their own words, and who has the last one.
#![allow(clippy::unwrap_used)]

use super::*;
use offshoot_proto::settings::Kind;
use std::ffi::OsString;

fn file(text: &str) -> Result<Vec<Setting>, Error> {
    file::read_text(Path::new("offshoot.toml"), text)
}

fn environment(variables: &[(&str, &str)]) -> Result<Vec<Setting>, Error> {
    environment::read(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

/// As if these words followed `offshoot`.
fn written(words: &[&str]) -> Result<Vec<Setting>, Error> {
    let mut command = flags::equip(<crate::Arguments as clap::CommandFactory>::command(), None);
    let words = std::iter::once("offshoot").chain(words.iter().copied());
    let matches = command.try_get_matches_from_mut(words).unwrap();
    Ok(flags::read(&command, &matches)?.unwrap().settings)
}

fn resolve(text: &str, variables: &[(&str, &str)], words: &[&str]) -> Result<Settings, Error> {
    Settings::resolve([file(text)?, environment(variables)?, written(words)?])
}

/// The error of a file, by itself or together with the defaults.
fn told(text: &str) -> String {
    resolve(text, &[], &["settings"]).expect_err(text).to_string()
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_line() {
    let conf = "[submit.conf]\n";
    let cases = [
        ("[worker]\ncoers = 2", "2: [worker] coers: no such key; did you mean cores?"),
        ("[client]\nx = 1", "2: [client] x: no such key; there are master, credential"),
        ("# one\n[wroker]\n", "2: [wroker]: no such table; did you mean worker?"),
        ("master = 1", "1: master: expected a table, [master] on a line of its own"),
        ("[[worker]]\ncores = 1", "1: worker: expected a table, [worker] on a line of its own"),
        ("cores = 1", "1: cores: has no effect here; it belongs under [worker]"),
        (
            "[master]\nexecutor-cores = 1",
            "2: [master] executor-cores: has no effect here; it belongs under [submit]",
        ),
        (
            "[submit]\ntask-cores = 1",
            "2: [submit] task-cores: has no effect here; it belongs under [submit.conf]",
        ),
        ("[worker]\ncores = 0", "2: [worker] cores = 0: expected a whole number from 1 to 4096"),
        (
            "[worker]\ncores = \"two\"",
            "2: [worker] cores = \"two\": expected a whole number from 1 to 4096",
        ),
        (
            "[worker]\nmemory = 1.5",
            "2: [worker] memory = 1.5: expected a size from 1 MiB to 1024 TiB",
        ),
        ("[worker]\nmaster = \"m\"", "2: [worker] master = \"m\": expected ADDR:PORT"),
        (
            "[worker]\nexecutor-ports = \"9-3\"",
            "2: [worker] executor-ports = \"9-3\": expected ports as A-B with A <= B",
        ),
        (
            "[worker]\ntoken = \"t\"",
            "2: [worker] token: does not belong in a file: a token lets a machine in; set \
             OFFSHOOT_TOKEN",
        ),
        (
            "[submit]\nallow-read = [\"/\"]",
            "2: [submit] allow-read: does not belong in a file: what a job may read is said for \
             each job, with --allow-read",
        ),
        ("[submit]\nwait = \"yes\"", "2: [submit] wait = \"yes\": expected true or false"),
        (
            "[master]\nworker-selection-policy = \"best\"",
            "2: [master] worker-selection-policy = \"best\": expected cores-free-desc, \
             cores-free-asc, memory-free-desc, memory-free-asc or worker-id",
        ),
        (
            "[master]\npreemption = true\npreemption-timeout = \"soon\"",
            "3: [master] preemption-timeout = \"soon\": expected a duration from 0s to 365d",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), format!("offshoot.toml:{expected}"), "{text}");
    }
    let cases = [
        (
            "dynamic-allocation.max-executor = 2",
            "dynamic-allocation.max-executor: no such key; did you mean \
             dynamic-allocation.max-executors?",
        ),
        (
            "dynamic-allocation.max-executors = 0",
            "dynamic-allocation.max-executors = 0: expected a whole number from 1 to 1000000, or \
             infinity",
        ),
        ("task-cores = \"1\"", "task-cores = \"1\": expected a whole number from 1 to 4096"),
        (
            "spark.task.maxFailures = 0",
            "spark.task.maxFailures = 0: expected a whole number from 1 to 1000",
        ),
        (
            "scheduler.pool.etl.weight = 0",
            "scheduler.pool.etl.weight = 0: expected a whole number from 1 to 1000000",
        ),
        ("scheduler.pol = {}", "scheduler.pol: no such key; did you mean scheduler.mode?"),
        ("cores = 1", "cores: has no effect here; it belongs under [worker]"),
    ];
    for (line, expected) in cases {
        let expected = format!("offshoot.toml:2: [submit.conf] {expected}");
        assert_eq!(told(&format!("{conf}{line}")), expected, "{line}");
    }
}

#[test]
fn the_first_error_is_told() {
    assert_eq!(
        told("[worker]\nmemory = 1\ncores = 0\n[client]\nx = 1"),
        "offshoot.toml:2: [worker] memory = 1: expected a size from 1 MiB to 1024 TiB"
    );
}

#[test]
fn what_stands_twice_is_an_error_in_any_spelling() {
    let same = told("[worker]\ncores = 1\ncores = 2");
    assert_eq!(same, "offshoot.toml:3: duplicate key");
    assert_eq!(
        told("[submit.conf]\ntask-cores = 1\nspark.task.cpus = 1"),
        "offshoot.toml:3: [submit.conf] spark.task.cpus: is set already, by offshoot.toml:2"
    );
    let broken = told("[worker]\ncores = ");
    assert!(broken.starts_with("offshoot.toml:2: "), "{broken}");
}

#[test]
fn what_has_no_effect_is_an_error() {
    let cases = [
        (
            "[master]\nspread = true\nconsolidate = true",
            "3: [master] consolidate: has no effect beside offshoot.toml:2: [master] spread; leave \
             one of them out",
        ),
        (
            "[master]\nspread = false",
            "2: [master] spread: false chooses nothing; write consolidate = true instead",
        ),
        (
            "[drain]\nwithin = \"1s\"",
            "1: [drain]: no such table; offshoot drain has its cluster from [client], and the rest \
             from its flags",
        ),
        (
            "[client]\nwithin = \"1s\"",
            "2: [client] within: does not belong in a file: it is about one worker's leaving; say \
             it to offshoot drain",
        ),
        (
            "[master]\nmax-cores = 1",
            "2: [master] max-cores: does not belong in a file: the master keeps what holds for a \
             tenant; say it to offshoot tenant",
        ),
        (
            "[master]\npreemption-timeout = \"3s\"",
            "2: [master] preemption-timeout: has no effect while preemption is false (the default)",
        ),
        (
            "[submit.conf.dynamic-allocation]\nenabled = false\nmax-executors = 3",
            "3: [submit.conf] dynamic-allocation.max-executors: has no effect while \
             dynamic-allocation.enabled is false (offshoot.toml:2)",
        ),
        (
            "[submit.conf]\nscheduler.pool.etl.weight = 3",
            "2: [submit.conf] scheduler.pool.etl.weight: has no effect while scheduler.mode is \
             fifo (the default)",
        ),
        (
            "[submit]\nexecutor-cores = 2\nconf.task-cores = 4",
            "3: [submit.conf] task-cores: task-cores 4 is more than executor-cores 2; lower the \
             first or raise the second",
        ),
        (
            "[submit]\nnum-executors = 9\nconf.dynamic-allocation.max-executors = 8",
            "2: [submit] num-executors: num-executors 9 is more than \
             dynamic-allocation.max-executors 8; lower the first or raise the second",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), format!("offshoot.toml:{expected}"), "{text}");
    }
}

#[test]
fn a_higher_level_may_turn_off_what_a_lower_one_describes_but_not_the_other_way() {
    let timeout = "[master]\npreemption = true\npreemption-timeout = \"3s\"\nconsolidate = true";
    let off = resolve(timeout, &[], &["master", "--preemption=false", "--spread"]).unwrap();
    assert!(off.setting(Table::Master, "preemption-timeout").is_none());
    assert!(off.setting(Table::Master, "consolidate").is_none());
    let disabled = "[submit.conf]\ndynamic-allocation.enabled = false";
    let max = "dynamic-allocation.max-executors";
    let words = ["submit", "--conf", &format!("{max}=3"), "x.wasm"];
    assert_eq!(
        resolve(disabled, &[], &words).unwrap_err().to_string(),
        format!(
            "--conf {max}: has no effect while dynamic-allocation.enabled is false \
             (offshoot.toml:2)"
        )
    );
    let enabled = [("OFFSHOOT_SUBMIT_CONF_DYNAMIC_ALLOCATION_ENABLED", "true")];
    let settings = resolve(disabled, &enabled, &words).unwrap();
    assert_eq!(settings.application().allocation.executors_max, Some(3));
}

#[test]
fn a_flag_comes_before_a_variable_before_the_file_before_the_default() {
    let text = "[worker]\ncores = 2\n[submit.conf]\nspark.task.cpus = 2";
    let variables = [("OFFSHOOT_WORKER_CORES", "3"), ("OFFSHOOT_SUBMIT_CONF_TASK_CORES", "3")];
    let words = ["worker", "--cores", "4"];
    let read = |text, variables: &[_], words: &[_]| {
        let settings = resolve(text, variables, words).unwrap();
        let cores = settings.setting(Table::Worker, "cores");
        let origin = cores.map(|cores| cores.place.origin.to_string());
        let cores = cores.map(|cores| cores.text.clone());
        (cores, origin, settings.application().task_cores)
    };
    let is = |cores: &str, origin: &str, task| (Some(cores.into()), Some(origin.into()), task);
    assert_eq!(read("", &[], &["worker"]), (None, None, 1));
    assert_eq!(read(text, &[], &["worker"]), is("2", "offshoot.toml:2", 2));
    assert_eq!(read(text, &variables, &["worker"]), is("3", "OFFSHOOT_WORKER_CORES", 3));
    assert_eq!(read(text, &variables, &words), is("4", "flag", 3));
    let words = ["submit", "--conf", "spark.task.cpus=4", "x.wasm"];
    assert_eq!(read(text, &variables, &words), is("3", "OFFSHOOT_WORKER_CORES", 4));
}

#[test]
fn variables_of_a_table_are_ours_and_others_are_left_alone() {
    let told = |name, value| environment(&[(name, value)]).unwrap_err().to_string();
    assert_eq!(
        told("OFFSHOOT_WORKER_COERS", "1"),
        "OFFSHOOT_WORKER_COERS: no such variable; did you mean OFFSHOOT_WORKER_CORES?"
    );
    assert_eq!(
        told("OFFSHOOT_CLIENT_MASTER", "h:1"),
        "OFFSHOOT_CLIENT_MASTER: no such variable; it is OFFSHOOT_MASTER"
    );
    assert_eq!(
        told("OFFSHOOT_WORKER_CORES", "0"),
        "OFFSHOOT_WORKER_CORES=0: expected a whole number from 1 to 4096"
    );
    assert_eq!(
        told("OFFSHOOT_SUBMIT_CONF_TASK_MEMORY", "1k"),
        "OFFSHOOT_SUBMIT_CONF_TASK_MEMORY=1k: expected a size from 1 MiB to 4 GiB"
    );
    let others = [
        ("OFFSHOOT_CACHE", "/tmp"),
        ("OFFSHOOT_MASTRE", "x"),
        ("OFFSHOOT_WORKER_CORES", ""),
        ("OFFSHOOT_MASTER_PORT", "udp://10.0.0.1:7077"),
        ("OFFSHOOT_MASTER_PORT_7077_UDP_ADDR", "10.0.0.1"),
        ("OFFSHOOT_MASTER_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    assert_eq!(environment(&others).unwrap(), []);
    let both = environment(&[("OFFSHOOT_MASTER", "h:1")]).unwrap();
    let tables: Vec<Table> = both.iter().map(|setting| setting.place.table).collect();
    assert_eq!(tables, [Table::Client, Table::Worker]);
}

#[test]
fn paths_of_a_file_are_relative_to_it() {
    let path = Path::new("/etc/offshoot/offshoot.toml");
    let text = "[client]\ncredential = \"my.credential\"\n[worker]\ndir = \"/data\"";
    let texts: Vec<String> =
        file::read_text(path, text).unwrap().into_iter().map(|setting| setting.text).collect();
    assert_eq!(texts, ["/etc/offshoot/my.credential", "/data"]);
}

#[test]
fn a_table_of_comments_says_nothing() {
    let text = "[worker]\n[submit.conf.dynamic-allocation]\n[submit.conf.scheduler.pool.etl]\n";
    assert_eq!(file(text).unwrap(), []);
}

#[test]
fn keys_defaults_and_variables_stand_once_and_fit() {
    let mut variables = Vec::new();
    for key in keys::all() {
        if let Some(default) = key.default_value() {
            assert!(key.kind.fits(default), "{key:?}");
        }
        let shared = key.table == Table::Worker && key.name == "master";
        variables.extend(key.variable().filter(|_| !shared));
    }
    let count = variables.len();
    variables.sort_unstable();
    variables.dedup();
    assert_eq!(variables.len(), count);
}

/// Every flag of a command that reads settings is a key or is said to be none, and every key has
/// its flag.
#[test]
fn flags_and_keys_are_the_same() {
    let command = <crate::Arguments as clap::CommandFactory>::command();
    let equipped = flags::equip(command, None);
    let is_no_key = |flag: &str| {
        let is_of_the_command_line = ["conf", "help"].contains(&flag);
        is_of_the_command_line || file::NOT_IN_FILES.iter().any(|(name, _)| *name == flag)
    };
    let mut found = Vec::new();
    for command in equipped.get_subcommands() {
        let Some(tables) = flags::tables(command.get_name()) else { continue };
        for command in [command].into_iter().chain(command.get_subcommands()) {
            for long in command.get_arguments().filter_map(clap::Arg::get_long) {
                let key = tables.iter().find_map(|table| table.find(long));
                assert!(key.is_some() || is_no_key(long), "{} --{long}", command.get_name());
                found.extend(key.map(|(key, _)| key));
            }
        }
    }
    for key in keys::all().filter(|key| key.table != Table::Conf) {
        assert!(found.contains(&key), "{key:?} has no flag");
    }
}

#[test]
fn the_documentation_lists_every_key_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documented = Vec::new();
    let mut table = None;
    for line in text.lines() {
        if line.starts_with('#') {
            table = Table::ALL
                .into_iter()
                .find(|table| line.contains(&format!("`[{}]`", table.name())));
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let (Some(table), [name, variable, default, range, _]) = (table, &cells[..])
            && name.starts_with('`')
        {
            documented.push(format!("{} {name} {variable} {default} {range}", table.name()));
        }
    }
    let row = |key: Key| {
        let variable = key.variable().map_or("none".to_owned(), |name| format!("`{name}`"));
        let default = match key.default_value() {
            Some(value) => format!("`{value}`"),
            None => key.default.trim_matches(['(', ')']).to_owned(),
        };
        let Key { table, name, kind, .. } = key;
        format!("{} `{name}` {variable} {default} {kind}", table.name())
    };
    let table: Vec<String> = keys::all().map(row).collect();
    assert_eq!(documented, table);
}

#[test]
fn the_example_for_operators_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operators.md");
    let text = std::fs::read_to_string(path).unwrap();
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let settings = resolve(example, &[], &["settings"]).unwrap();
    assert!(settings.iter().count() > 10, "{settings:?}");
}

#[test]
fn files_that_others_may_have_written_are_not_found() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("offshoot")).unwrap();
    let path = home.path().join("offshoot/offshoot.toml");
    std::fs::write(&path, "[worker]\ncores = 3").unwrap();
    let variable = |name: &str| (name == "XDG_CONFIG_HOME").then(|| OsString::from(home.path()));
    let mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    assert_eq!(file::find(None, variable).unwrap()[0].text, "3");
    mode(0o646);
    let expected = format!(
        "{}: everybody may write this file; name it with --config to use it all the same",
        path.display()
    );
    assert_eq!(file::find(None, variable).unwrap_err().to_string(), expected);
    assert_eq!(file::find(Some(&path), variable).unwrap()[0].text, "3");
    let none = home.path().join("none.toml");
    assert!(matches!(file::find(Some(&none), variable), Err(Error::Read { .. })));
    let secret = keys::all().find(|key| key.kind == Kind::Secret).unwrap();
    assert_eq!(secret.name, "token");
}
