//! Which table a writer's schema goes to.
