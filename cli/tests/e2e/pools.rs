//! Jobs of one application that run at once, and what is told of what waits.

use crate::support::{Cluster, guest};

/// Which task ended when, of two jobs of 60 tasks with four slots.
fn ended(cluster: &Cluster, settings: &[&str]) -> String {
    let mut arguments: Vec<std::ffi::OsString> = Vec::new();
    for setting in settings {
        arguments.extend(["--conf".into(), setting.into()]);
    }
    arguments.extend([guest("pools").into(), "60".into(), "8000000".into()]);
    let said = cluster.submit(&arguments).ok();
    let ended = said.trim().to_owned();
    let of = |letter| ended.matches(letter).count();
    assert_eq!((of('e'), of('a')), (60, 60), "{ended}");
    ended
}

#[test]
fn two_jobs_at_once_share_the_slots_as_their_pools_say() {
    let cluster = Cluster::start(1, 4);
    let in_order = ended(&cluster, &[]);
    let before_the_last = in_order.trim_end_matches('a');
    // Those that ended while the last of the first job ran.
    assert!(before_the_last.matches('a').count() <= 8, "{in_order}");
    let weighted = ["scheduler.mode=fair", "scheduler.pool.etl.weight=3"];
    let fair = ended(&cluster, &weighted);
    let first = &fair[..60];
    let etl = first.matches('e').count();
    assert!((36..=54).contains(&etl), "three of four are 45, found {etl}: {fair}");
    let least = ["spark.scheduler.mode=FAIR", "scheduler.pool.adhoc.min-share=3"];
    let fair = ended(&cluster, &least);
    let adhoc = fair[..60].matches('a').count();
    assert!((36..=54).contains(&adhoc), "three of four are 45, found {adhoc}: {fair}");
    cluster.wait_until_idle();
}
