//! Listings, inputs and outputs of jobs.

use super::*;

fn names(files: &[InputFile]) -> Vec<&str> {
    let name = |file: &'_ InputFile| file.path.rsplit('/').next().map(str::len).unwrap();
    files.iter().map(|file| &file.path[file.path.len() - name(file)..]).collect()
}

#[test]
fn inputs_are_files_directories_and_patterns() {
    let world = World::new();
    for name in ["b.csv", "a.csv", "c.txt", ".hidden.csv", "_SUCCESS", "10.csv"] {
        fs::write(world.at("work/dir").join(name), name).unwrap();
    }
    fs::create_dir(world.at("work/dir/more.csv")).unwrap();
    fs::write(world.at("work/dir/more.csv/z.csv"), "z").unwrap();
    let list = |pattern: &str| world.broker.list_inputs(pattern).unwrap();
    let file = list("work/dir/a.csv");
    assert_eq!(file[0].path, world.host("work/dir/a.csv"));
    assert_eq!(file[0].length, 5);
    let stat = fs::metadata(world.at("work/dir/a.csv")).unwrap();
    assert_eq!(file[0].modified_nanos, stat.mtime() * 1_000_000_000 + stat.mtime_nsec());
    let all = ["10.csv", "a.csv", "b.csv", "c.txt"];
    assert_eq!(names(&list("work/dir")), all);
    assert_eq!(names(&list(&format!("./{}/", "work/dir"))), all);
    assert_eq!(names(&list(&world.host("work/dir"))), all);
    assert_eq!(names(&list("work/dir/?.csv")), ["a.csv", "b.csv"]);
    assert_eq!(names(&list("work/dir/[bc].*")), ["b.csv", "c.txt"]);
    assert_eq!(names(&list("work/di*/[0-9]*.csv")), ["10.csv"]);
    assert_eq!(names(&list("work/dir/*.csv")), ["10.csv", "a.csv", "b.csv", "z.csv"]);
    assert_eq!(names(&list("work/dir/.*.csv")), [".hidden.csv"]);
    assert_eq!(names(&list("one.txt")), ["one.txt"]);
}

#[test]
fn two_stars_stand_for_directories_at_any_depth() {
    let world = World::new();
    for path in ["a.csv", "y=1/b.csv", "y=1/m=2/c.csv", "y=2/_tmp/x.csv", "y=2/.x/x.csv", "y=2/d"] {
        let path = world.at("work/dir/tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    // A link to where it is would never end.
    std::os::unix::fs::symlink(".", world.at("work/dir/tree/y=2/loop")).unwrap();
    let list = |pattern: &str| {
        let files = world.broker.list_inputs(pattern).unwrap();
        names(&files).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list("work/dir/tree/**"), ["a.csv", "b.csv", "c.csv", "d"]);
    assert_eq!(list("work/dir/tree/**/*.csv"), ["a.csv", "b.csv", "c.csv"]);
    assert_eq!(list("work/dir/tree/y=*/**"), ["b.csv", "c.csv", "d"]);
    assert_eq!(list("work/dir/tree/**/m=2/*"), ["c.csv"]);
}

#[test]
fn listings_stay_inside_too() {
    let world = World::new();
    let fails = |pattern: &str| world.broker.list_inputs(pattern).unwrap_err();
    for pattern in ["secret", "secret/*", "/etc/passwd", "*.txt", "two.txt", "../*", "data/../*"] {
        assert_eq!(fails(pattern).code(), code::DENIED, "{pattern}");
    }
    for pattern in ["data/out", "data/o*", "data/outdir", "data/outdir/*", "data/up/*", "data"] {
        assert_eq!(fails(pattern).code(), code::DENIED, "{pattern}");
    }
    assert_eq!(
        fails("secret/*").to_string(),
        "reading secret/* is not granted: add --allow-read secret/*"
    );
    assert_eq!(fails("data/no*").to_string(), "no file matches data/no*");
    assert_eq!(fails("data/none").code(), code::IO);
    assert_eq!(fails("data/in.txt/").code(), code::IO);
    assert_eq!(fails("data/x**/x").code(), code::INVALID);
    assert_eq!(fails("data/**/x").code(), code::IO);
    assert_eq!(fails("secret/**").code(), code::DENIED);
    assert_eq!(fails("data/[x").code(), code::INVALID);
}

#[test]
fn an_input_is_the_file_that_was_listed() {
    let world = World::new();
    let listed = world.broker.list_inputs("data/in.txt").unwrap().remove(0);
    let tasks = Broker::for_tasks(&world.grants);
    assert_eq!(text_of(tasks.open_input(&listed).unwrap()), "in");

    fs::write(world.at("data/in.txt"), "longer").unwrap();
    let error = tasks.open_input(&listed).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("listed with 2 bytes") && text.contains("now has 6 bytes"), "{text}");
    assert_eq!(error.code(), code::IO);

    let older = InputFile { length: 6, modified_nanos: 1, ..listed };
    assert!(matches!(tasks.open_input(&older), Err(BrokerError::InputChanged { .. })));
    for path in ["secret/key.txt", "two.txt", "data/../secret/key.txt", "data/out"] {
        let path = world.host(path);
        let file = InputFile { path, ..older.clone() };
        assert_eq!(tasks.open_input(&file).unwrap_err().code(), code::DENIED);
    }
}

#[test]
fn an_output_is_a_directory_that_does_not_exist_yet() {
    let world = World::new();
    let check = |path: &str| world.broker.check_output_dir(path);
    assert_eq!(check("work/result").unwrap(), world.host("work/result"));
    assert_eq!(check("work/dir/out/").unwrap(), world.host("work/dir/out"));
    assert!(matches!(check("work/dir"), Err(BrokerError::OutputExists { .. })));
    assert!(matches!(check("work/dangling"), Err(BrokerError::OutputExists { .. })));
    assert!(matches!(check("work"), Err(BrokerError::OutputExists { .. })));
    assert!(matches!(check("work/no/out"), Err(BrokerError::NoOutputParent { .. })));
    for path in ["data/out", "out", "/tmp/out", "work/../out", "work/outdir/out"] {
        assert_eq!(check(path).unwrap_err().code(), code::DENIED, "{path}");
    }
    let text = check("data/out").unwrap_err().to_string();
    assert_eq!(text, "writing data/out is not granted: add --allow-write data/out");
    let grants = grants(world.directory.path(), &[], &["result"]);
    let output = Broker::new(&grants).check_output_dir("result").unwrap();
    assert_eq!(output, world.host("result"));
}
