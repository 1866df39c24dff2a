"""The history of the tables, run by `storage.db.Database.upgrade`; nothing else imports this package."""
