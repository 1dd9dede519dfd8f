//! Portal activity: sessions, timelines, leaderboard.
