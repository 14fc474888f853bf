from lorewire.cli import app

app()
