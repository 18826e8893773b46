//! Measuring in turn, and writing down the ratios.

use std::fmt;
use std::time::{Duration, Instant};

/// The times of one contender, one for each round.
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// These, in seconds.
    #[allow(dead_code, reason = "shared with the other benchmark")]
    pub(crate) fn of(seconds: Vec<f64>) -> Times {
        Times(seconds)
    }

    /// The median in seconds.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        }
    }

    /// How many times as long as `other` it took.
    pub(crate) fn over(&self, other: &Times) -> Ratio {
        let rounds = self.0.iter().zip(&other.0).map(|(one, other)| one / other);
        Ratio {
            of_medians: self.median() / other.median(),
            min: rounds.clone().fold(f64::INFINITY, f64::min),
            max: rounds.fold(0.0, f64::max),
        }
    }
}

/// One thing as a multiple of another: the ratio of the medians, and the least and the greatest
/// ratio of a round.
pub(crate) struct Ratio {
    of_medians: f64,
    min: f64,
    max: f64,
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |x: f64| {
            let decimals = match x {
                _ if x < 9.995 => 2,
                _ if x < 99.95 => 1,
                _ => 0,
            };
            format!("{x:.decimals$}")
        };
        let (min, max) = (figure(self.min), figure(self.max));
        write!(f, "{} ({min} to {max})", figure(self.of_medians))
    }
}

/// Something that is run once a round and says how long it took.
pub(crate) type Contender<'a> = Box<dyn FnMut() -> Duration + 'a>;

/// Runs each in turn, round after round, so that whatever else the machine does meets all of them.
pub(crate) fn in_turn<const N: usize>(
    rounds: usize,
    mut contenders: [Contender<'_>; N],
) -> [Times; N] {
    let mut times = [(); N].map(|()| Times(Vec::new()));
    for _ in 0..rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            times.0.push(contender().as_secs_f64());
        }
    }
    times
}

/// A contender in this process.
pub(crate) fn call<'a, T>(mut work: impl FnMut() -> T + 'a) -> Contender<'a> {
    Box::new(move || {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    })
}

/// A Markdown table under a heading.
pub(crate) struct Table {
    title: &'static str,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: &'static str, heads: &[&str]) -> Table {
        let heads = heads.iter().map(|head| head.to_string()).collect();
        Table {
            title,
            rows: vec![heads],
        }
    }

    /// Adds a row, and tells whoever waits that it is done.
    pub(crate) fn row(&mut self, cells: &[&dyn fmt::Display]) {
        let row: Vec<String> = cells.iter().map(|cell| cell.to_string()).collect();
        eprintln!("{}: {}", self.title, row.join(", "));
        self.rows.push(row);
    }

    /// Prints it, and below it how the numbers came about.
    pub(crate) fn print(&self, how: &str) {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default().max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        println!("### {}\n", self.title);
        for (number, row) in self.rows.iter().enumerate() {
            print_row(row, &widths);
            if number == 0 {
                let rule = widths.iter().enumerate().map(|(column, &width)| {
                    let end = if column == 0 { "-" } else { ":" };
                    "-".repeat(width - 1) + end
                });
                print_row(&rule.collect::<Vec<_>>(), &widths);
            }
        }
        println!("\n{how}\n");
    }
}

/// The first column is a name, the others are numbers.
fn print_row(cells: &[String], widths: &[usize]) {
    print!("| {:<width$} |", cells[0], width = widths[0]);
    for (cell, &width) in cells.iter().zip(widths).skip(1) {
        print!(" {cell:>width$} |");
    }
    println!();
}
