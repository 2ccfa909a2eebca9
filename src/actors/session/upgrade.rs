//! What turns a request into a connection of frames, for the sessions that are one.

pub(super) use actix_web_actors::ws;
