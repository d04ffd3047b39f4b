process.executable LIKE '.../%'
