//! Alerts over REST: who is heard, what becomes of it, and how an alert lives.
