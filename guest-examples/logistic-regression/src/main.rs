//! Learns to tell two kinds of points apart: `logistic-regression POINTS ITERATIONS PARTITIONS`.
//!
//! Every step is one job: the weights are captured, each task sums the gradient of its points, and
//! the sums are added in a tree of tasks. The points are made by the tasks, on either side of a
//! plane that is known, and kept; prints the direction that was learned and how many points it is
//! right about.
#![forbid(unsafe_code)]

use example::{mix, positive};
use offshoot::prelude::*;
use std::process::ExitCode;

const USAGE: &str = "logistic-regression POINTS ITERATIONS PARTITIONS (how many points, how \
     many steps to take, over how many partitions; points and partitions at least 1)";

/// Numbers of a point.
const DIMENSIONS: usize = 4;

/// The plane that the points lie on either side of.
const PLANE: [f64; DIMENSIONS] = [0.5, -0.5, 0.1, 0.7];

/// How far a step goes along the mean gradient.
const STEP: f64 = 8.0;

/// Levels of the tree in which tasks add gradients.
const DEPTH: u32 = 2;

type Vector = [f64; DIMENSIONS];

fn main() -> ExitCode {
    example::main(USAGE, parse, |(points, iterations, partitions)| -> Result<(), Error> {
        let (direction, right) = run(points, iterations, partitions)?;
        println!("direction\t{}", direction.map(|n| format!("{n:.3}")).join("\t"));
        println!("right about {:.2} %", 100.0 * right as f64 / points as f64);
        Ok(())
    })
}

/// Points, iterations and partitions.
fn parse(arguments: &[String]) -> Option<(u64, u32, u32)> {
    let [_, points, iterations, partitions] = arguments else {
        return None;
    };
    Some((positive(points)?, iterations.parse().ok()?, positive(partitions)?))
}

/// The direction learned, and how many points it is right about.
fn run(points: u64, iterations: u32, partitions: u32) -> Result<(Vector, u64), Error> {
    let data = Context::new().range(0..points, partitions).map(point).cache();
    let mut weights = [0.0; DIMENSIONS];
    for _ in 0..iterations {
        let in_tasks = weights;
        let gradient = data.tree_aggregate(
            [0.0; DIMENSIONS],
            move |sum, (point, label)| add(sum, &gradient(&in_tasks, &point, label)),
            |left, right| add(left, &right),
            DEPTH,
        )?;
        weights = add(weights, &gradient.map(|sum| -STEP * sum / points as f64));
    }
    let right = data.filter(move |(point, label)| dot(&weights, point) * label > 0.0).count()?;
    let length = dot(&weights, &weights).sqrt();
    Ok((weights.map(|weight| if length > 0.0 { weight / length } else { 0.0 }), right))
}

/// Of the loss at one point, whose label is 1 or -1.
fn gradient(weights: &Vector, point: &Vector, label: f64) -> Vector {
    let wrong = 1.0 / (1.0 + (-label * dot(weights, point)).exp()) - 1.0;
    point.map(|x| label * wrong * x)
}

fn add(left: Vector, right: &Vector) -> Vector {
    std::array::from_fn(|index| left[index] + right[index])
}

fn dot(left: &Vector, right: &Vector) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// A point of the cube from -1 to 1, and on which side of the plane it is.
fn point(number: u64) -> (Vector, f64) {
    let random = mix(number);
    let unit = |index: usize| ((random >> (16 * index)) & 0xffff) as f64 / 32768.0 - 1.0;
    let point = std::array::from_fn(unit);
    (point, if dot(&PLANE, &point) > 0.0 { 1.0 } else { -1.0 })
}

#[cfg(test)]
mod tests {
    use super::{PLANE, STEP, add, dot, gradient, point};

    /// What the job does, by a loop.
    #[test]
    fn the_plane_is_found() {
        let points: Vec<_> = (0..2000).map(point).collect();
        let mut weights = [0.0; 4];
        for _ in 0..50 {
            let sum = points
                .iter()
                .fold([0.0; 4], |sum, (point, label)| add(sum, &gradient(&weights, point, *label)));
            weights = add(weights, &sum.map(|n| -STEP * n / 2000.0));
        }
        let right = points.iter().filter(|(point, label)| dot(&weights, point) * label > 0.0);
        assert!(right.count() > 1970);
        let cosine = dot(&weights, &PLANE) / (dot(&weights, &weights) * dot(&PLANE, &PLANE)).sqrt();
        assert!(cosine > 0.99, "{cosine}");
    }
}
