//! Finds clusters of points: `kmeans POINTS CLUSTERS ITERATIONS PARTITIONS`.
//!
//! Every round is one job that captures the centres: tasks are forks of `main` and find them. The
//! points are made by the tasks, around as many places as there are clusters, and kept; prints the
//! centres that were found and the mean square of the distances to them.
#![forbid(unsafe_code)]

use example::{mix, positive};
use offshoot::prelude::*;
use std::process::ExitCode;

const USAGE: &str = "kmeans POINTS CLUSTERS ITERATIONS PARTITIONS (at least as many points \
     as clusters to find, how often the centres move, over how many partitions; clusters and \
     partitions at least 1)";

/// Points from which the first centres are chosen, for each cluster.
const CANDIDATES: usize = 30;

/// How far apart the clusters are; the points of each are within a square of side 2.
const DISTANCE: f64 = 10.0;

type Point = (f64, f64);

/// Points by nearest centre: how many, and their sum.
type Sums = Vec<(u64, Point)>;

fn main() -> ExitCode {
    example::main(USAGE, parse, |job| -> Result<(), Error> {
        let (centres, error) = run(job)?;
        centres.iter().for_each(|(x, y)| println!("{x:.4}\t{y:.4}"));
        println!("mean square of the distances {error:.4}");
        Ok(())
    })
}

/// Points, clusters, iterations and partitions.
fn parse(arguments: &[String]) -> Option<(u64, u32, u32, u32)> {
    let [_, points, clusters, iterations, partitions] = arguments else {
        return None;
    };
    let (points, clusters) = (points.parse().ok()?, positive(clusters)?);
    let enough = points >= u64::from(clusters);
    enough.then_some((points, clusters, iterations.parse().ok()?, positive(partitions)?))
}

/// The centres in order, and how far the points are from them.
fn run(
    (points, clusters, iterations, partitions): (u64, u32, u32, u32),
) -> Result<(Vec<Point>, f64), Error> {
    let points = Context::new().range(0..points, partitions);
    let points = points.map(move |number| point(number, clusters)).cache();
    let clusters = clusters as usize;
    let mut centres = first_centres(&points.take_sample(CANDIDATES * clusters, 1)?, clusters);
    for _ in 0..iterations {
        let in_tasks = centres.clone();
        let add = move |mut sums: Sums, (x, y): Point| {
            let (count, sum) = &mut sums[nearest((x, y), &in_tasks).0];
            *count += 1;
            *sum = (sum.0 + x, sum.1 + y);
            sums
        };
        let sums = points.aggregate(vec![(0, (0.0, 0.0)); centres.len()], add, merge)?;
        for (centre, (count, sum)) in centres.iter_mut().zip(sums) {
            if count > 0 {
                *centre = (sum.0 / count as f64, sum.1 / count as f64);
            }
        }
    }
    let in_tasks = centres.clone();
    let error = points.map(move |point| nearest(point, &in_tasks).1).mean()?;
    centres.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.total_cmp(&right.1)));
    Ok((centres, error.unwrap_or(0.0)))
}

fn merge(mut left: Sums, right: Sums) -> Sums {
    for ((count, sum), (more, (x, y))) in left.iter_mut().zip(right) {
        *count += more;
        *sum = (sum.0 + x, sum.1 + y);
    }
    left
}

/// One candidate, and then always the one that is farthest from all before (Gonzalez).
fn first_centres(candidates: &[Point], clusters: usize) -> Vec<Point> {
    let mut centres: Vec<Point> = candidates.iter().copied().take(1).collect();
    while centres.len() < clusters {
        let far = |point: &&Point| nearest(**point, &centres).1;
        let farthest = candidates.iter().max_by(|left, right| far(left).total_cmp(&far(right)));
        centres.extend(farthest);
    }
    centres
}

/// Which centre is nearest to a point, and the square of its distance.
fn nearest((x, y): Point, centres: &[Point]) -> (usize, f64) {
    let squares = centres.iter().map(|centre| (centre.0 - x).powi(2) + (centre.1 - y).powi(2));
    squares.enumerate().min_by(|left, right| left.1.total_cmp(&right.1)).unwrap_or((0, 0.0))
}

/// A point of one of the clusters, which lie on a line.
fn point(number: u64, clusters: u32) -> Point {
    let cluster = number % u64::from(clusters);
    let unit = |bits: u64| (bits & 0xffff) as f64 / 65536.0;
    let random = mix(number);
    (cluster as f64 * DISTANCE + 2.0 * unit(random) - 1.0, 2.0 * unit(random >> 16) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::{first_centres, nearest, parse, point};

    #[test]
    fn arguments() {
        let parse = |text: &str| parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("kmeans 9 9 0 1"), Some((9, 9, 0, 1)));
        for wrong in ["kmeans 9 9 1", "kmeans 8 9 1 1", "kmeans 9 0 1 1", "kmeans 9 9 1 0"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_first_centres_are_in_different_clusters() {
        let candidates: Vec<_> = (0..120).map(|number| point(number, 4)).collect();
        let mut clusters: Vec<i64> = first_centres(&candidates, 4)
            .iter()
            .map(|centre| (centre.0 / 10.0).round() as i64)
            .collect();
        clusters.sort_unstable();
        assert_eq!(clusters, [0, 1, 2, 3]);
    }

    #[test]
    fn the_nearest_centre() {
        assert_eq!(nearest((1.0, 1.0), &[(9.0, 9.0), (1.0, 3.0), (5.0, 1.0)]), (1, 4.0));
    }
}
