DELETE FROM principals WHERE id = 5;
