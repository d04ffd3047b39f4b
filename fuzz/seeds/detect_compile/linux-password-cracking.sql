process.name IN ('john', 'hashcat', 'unshadow', 'mimipenguin', 'lazagne', 'laZagne', 'hydra',
    'medusa', 'ncrack')
  OR any_ilike(process.args, '%mimipenguin%') OR any_ilike(process.args, '%/lazagne%')
  OR any_like(process.args, '%swap_digger%') OR any_like(process.args, '%linpeas%')
