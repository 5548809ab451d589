//! Two things measured in turn, many times over.

use super::error::Result;

/// What one round measured of one side, by name, such as "calls per second".
pub type Figures = Vec<f64>;

/// The figures of all rounds, ours and the other side's.
#[derive(Default)]
pub struct Rounds {
    ours: Vec<Figures>,
    other: Vec<Figures>,
}

/// One figure over all rounds.
#[derive(Clone, Copy, Debug)]
pub struct Medians {
    /// The median of ours.
    pub ours: f64,
    /// The median of the other side's.
    pub other: f64,
    /// The median of the rounds' ratios, ours to the other.
    pub ratio: f64,
}

impl Rounds {
    /// Measures in `count` rounds; who comes first changes from round to round.
    pub async fn measure(
        count: usize,
        mut ours: impl AsyncFnMut() -> Result<Figures>,
        mut other: impl AsyncFnMut() -> Result<Figures>,
    ) -> Result<Self> {
        let mut rounds = Self::default();
        for round in 0..count {
            if round % 2 == 0 {
                rounds.ours.push(ours().await?);
                rounds.other.push(other().await?);
            } else {
                rounds.other.push(other().await?);
                rounds.ours.push(ours().await?);
            }
        }
        Ok(rounds)
    }

    /// The medians of one of the figures.
    pub fn medians(&self, figure: usize) -> Medians {
        let of = |rounds: &[Figures]| rounds.iter().map(|round| round[figure]).collect::<Vec<_>>();
        let (ours, other) = (of(&self.ours), of(&self.other));
        let ratios = ours.iter().zip(&other).map(|(ours, other)| ours / other);
        Medians {
            ratio: median(ratios.collect()),
            ours: median(ours),
            other: median(other),
        }
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    values
        .get(low)
        .copied()
        .unwrap_or(f64::NAN)
        .midpoint(values[high])
}
