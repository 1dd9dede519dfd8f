//! The leaderboard's score and rank (G-16, G-17), pure and exact.

use std::cmp::Ordering;

use num_bigint::BigUint;

use super::figures::Figures;

/// A score, as the exact fraction of 100.
#[derive(Clone, Debug)]
pub struct Score {
    numerator: BigUint,
    denominator: BigUint,
}

impl Score {
    /// The score rounded to a double, 0 to 100.
    #[must_use]
    pub fn rounded(&self) -> f64 {
        // Twelve decimals are more than people read and less than a double holds.
        let scaled = &self.numerator * 1_000_000_000_000_u64 / &self.denominator;
        let digits = scaled.to_u64_digits();
        let scaled = digits.first().copied().unwrap_or(0);
        scaled as f64 / 1e12
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.numerator * &other.denominator).cmp(&(&other.numerator * &self.denominator))
    }
}

/// The scores of a population: 40% sessions, 30% unique users, 20% page views, 10% mean duration, each as a share of the
/// population's maximum; a share of a maximum of 0 is 0.
#[must_use]
pub fn scores(population: &[Figures]) -> Vec<Score> {
    let most = |figure: fn(&Figures) -> u64| population.iter().map(figure).max().unwrap_or(0);
    let sessions = most(|figures| figures.sessions);
    let users = most(|figures| figures.unique_users);
    let views = most(|figures| figures.page_views);
    let longest = population
        .iter()
        .copied()
        .max_by(Figures::cmp_average_duration)
        .unwrap_or_default();
    population
        .iter()
        .map(|figures| {
            // Mean duration / longest mean duration.
            let share_of_duration = (
                nanos(figures.duration) * longest.sessions,
                nanos(longest.duration) * figures.sessions,
            );
            let terms = [
                (40_u32, figures.sessions.into(), sessions.into()),
                (30, figures.unique_users.into(), users.into()),
                (20, figures.page_views.into(), views.into()),
                (10, share_of_duration.0, share_of_duration.1),
            ];
            let mut score = Score {
                numerator: BigUint::ZERO,
                denominator: BigUint::from(1_u32),
            };
            for (weight, part, most) in terms {
                if most == BigUint::ZERO {
                    continue;
                }
                score.numerator = score.numerator * &most + part * weight * &score.denominator;
                score.denominator *= most;
            }
            score
        })
        .collect()
}

fn nanos(duration: i128) -> BigUint {
    BigUint::from(duration.unsigned_abs())
}

/// The competition ranks of scores: equal scores share a rank, and the next rank counts them all (1, 1, 3).
#[must_use]
pub fn ranks(scores: &[Score]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&one, &other| scores[other].cmp(&scores[one]));
    let mut ranks = vec![0; scores.len()];
    let mut rank = 0;
    for (position, &index) in (1_u32..).zip(&order) {
        let ties = position > 1 && scores[order[position as usize - 2]] == scores[index];
        if !ties {
            rank = position;
        }
        ranks[index] = rank;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(unique_users: u64, sessions: u64, page_views: u64, duration: i128) -> Figures {
        Figures {
            unique_users,
            sessions,
            page_views,
            actions: 0,
            duration,
        }
    }

    /// G-16, by hand: maxima 10 sessions, 4 users, 40 views, mean 60 (600/10 against 100/5 = 20).
    #[test]
    fn g16_weighted_shares_of_the_maxima() {
        let scores = scores(&[figures(2, 10, 40, 600), figures(4, 5, 10, 100)]);
        // 40 + 15 + 20 + 10 = 85;  20 + 30 + 5 + 10/3 = 58.333...
        assert!((scores[0].rounded() - 85.0).abs() < 1e-9);
        assert!((scores[1].rounded() - 58.333_333_333_333).abs() < 1e-9);
    }

    /// G-16: a maximum of 0 gives 0.
    #[test]
    fn g16_nothing_scores_zero() {
        let scores = scores(&[Figures::default(), Figures::default()]);
        assert_eq!(scores[0].rounded(), 0.0);
        assert_eq!(ranks(&scores), [1, 1]);
        // Single-event sessions only: no duration, 90 for the rest.
        assert_eq!(super::scores(&[figures(1, 1, 1, 0)])[0].rounded(), 90.0);
    }

    /// G-16, G-17: ties are found exactly. A: 40*1/3 + 30 + 20*1 + 0, B: 40 + 30*1/9 + 20*1 + 0 = 63.33 both.
    #[test]
    fn g17_exact_ties_share_a_rank() {
        let scores = scores(&[
            figures(9, 1, 6, 0),
            figures(1, 3, 6, 0),
            figures(1, 1, 1, 0),
        ]);
        // 13.33 + 30 + 20 = 63.33; 40 + 3.33 + 20 = 63.33; 13.33 + 3.33 + 3.33 = 20.
        assert_eq!(scores[0], scores[1]);
        assert_eq!(ranks(&scores), [1, 1, 3]);
        assert!((scores[2].rounded() - 20.0).abs() < 1e-9);
    }
}
