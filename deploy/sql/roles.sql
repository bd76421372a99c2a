-- Two roles with no more than they need, on PostgreSQL 13 or newer. Run it as the owner of the tables, after `sentiment-monitor db upgrade` and
-- again after every later one; running it twice changes nothing. It sets no passwords: \password ROLE in psql does.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sentiment_daemon') THEN
    CREATE ROLE sentiment_daemon LOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sentiment_analyst') THEN
    CREATE ROLE sentiment_analyst LOGIN CONNECTION LIMIT 20;
  END IF;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;  -- what PostgreSQL 15 and newer do by themselves
GRANT USAGE ON SCHEMA public TO sentiment_daemon, sentiment_analyst;

-- The daemon reads and writes rows. It cannot make, change or drop a table: set `migrate_on_start: false` and let the owner run `db upgrade`.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO sentiment_daemon;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO sentiment_daemon;
REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM sentiment_daemon;
DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO sentiment_daemon', current_database()); END $$;  -- posts are staged there

-- Analysts read figures, not people: no texts, authors, raw records, quoted messages, nor the key of the user hash.
GRANT SELECT ON daily_sentiment, daily_totals, models TO sentiment_analyst;
GRANT SELECT (post_key, source, position, brand, id, created_at, day, lang, pos_prob, pred, label, p_negative, p_neutral, p_positive, model, scored_at)
  ON posts TO sentiment_analyst;
GRANT SELECT (alert_key, episode, brand, day, kind, rule_ma3, ma3, mean_pos, total, threshold, state, created_at, sent_at)
  ON alerts TO sentiment_analyst;

-- A query that somebody forgot must not hold old rows back or take the machine.
ALTER ROLE sentiment_analyst SET default_transaction_read_only = on;
ALTER ROLE sentiment_analyst SET statement_timeout = '60s';
ALTER ROLE sentiment_analyst SET idle_in_transaction_session_timeout = '60s';
