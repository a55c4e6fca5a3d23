//! Files of other servers: what becomes of each line, whether the real server reads them in the same
//! way, and whether a server that is pointed at them serves.

mod corpus;
mod differential;
mod gunicorn_corpus;
mod gunicorn_differential;
mod gunicorn_served;
mod images;
mod moves;
mod nginx_answers;
mod nginx_corpus;
mod nginx_differential;
mod nginx_gunicorn;
mod served;
mod supervisord_corpus;
mod uwsgi_differential;
