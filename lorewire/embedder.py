"""The embedder that the settings name."""

from language.embedding import Embedder, WordLlamaEmbedder
from language.embedding_endpoint import EndpointEmbedder
from lorewire.settings import Settings


def load_embedder(settings: Settings) -> Embedder | None:
    """The embedder, or None where search goes by words alone. Blocks for up to a second.

    Asks no endpoint yet. Raises EmbedderMissingError where a package is missing.
    """
    match settings.embedder:
        case "none":
            return None
        case "wordllama":
            return WordLlamaEmbedder()
        case "openai":
            return _endpoint(settings)


def _endpoint(settings: Settings) -> EndpointEmbedder:
    url, model = settings.embedding_url, settings.embedding_model
    dimensions = settings.embedding_dimensions
    if url is None or model is None or dimensions is None:
        raise ValueError("an endpoint without URL, model or dimensions, which Settings refuses")
    return EndpointEmbedder(
        base_url=url,
        model=model,
        dimensions=dimensions,
        api_key=settings.embedding_key.get_secret_value() if settings.embedding_key else None,
        min_cosine=settings.embedding_min_cosine,
        timeout_s=settings.embedding_timeout_s,
    )
