-- What the attempts of a run amount to, by their state: asked for before each request, so kept and not added up.
CREATE TABLE spending (state TEXT PRIMARY KEY, amount INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO spending SELECT state, sum(amount) FROM attempt GROUP BY state;

CREATE TRIGGER attempt_added AFTER INSERT ON attempt BEGIN
    INSERT INTO spending VALUES (NEW.state, NEW.amount)
        ON CONFLICT (state) DO UPDATE SET amount = amount + excluded.amount;
END;

CREATE TRIGGER attempt_changed AFTER UPDATE ON attempt BEGIN
    UPDATE spending SET amount = amount - OLD.amount WHERE state = OLD.state;
    INSERT INTO spending VALUES (NEW.state, NEW.amount)
        ON CONFLICT (state) DO UPDATE SET amount = amount + excluded.amount;
END;
