"""Feature sets of bundles whose manifests do not name their families: the families' hashes, by the set's hash."""

from __future__ import annotations

#: The outputs of each family of version 0.1.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "adx": ("adx", "strong_trend"),
    "averages": (
        "ma_5",
        "price_vs_ma_5",
        "ma_5_slope",
        "ma_10",
        "price_vs_ma_10",
        "ma_10_slope",
        "ma_20",
        "price_vs_ma_20",
        "ma_20_slope",
        "ma_50",
        "price_vs_ma_50",
        "ma_50_slope",
        "ma_200",
        "price_vs_ma_200",
        "ma_200_slope",
    ),
    "bbands": ("bb_position", "bb_squeeze", "bb_breakout_upper", "bb_breakout_lower"),
    "context": ("current_price", "session", "minutes_to_close", "bar_age_ms"),
    "macd": ("macd", "macd_signal", "macd_histogram", "macd_cross_bullish", "macd_cross_bearish"),
    "momentum": ("momentum_1", "momentum_3", "momentum_5", "momentum_10"),
    "news": ("news_sentiment_1h", "news_sentiment_24h", "news_volume_1h", "news_volume_24h"),
    "options": ("unusual_call_volume", "unusual_put_volume", "put_call_ratio", "iv_rank", "iv_percentile"),
    "rsi": ("rsi_14", "rsi_overbought", "rsi_oversold", "rsi_momentum"),
    "stoch": ("stoch_k", "stoch_d", "stoch_overbought", "stoch_oversold"),
    "volatility": ("volatility_5d", "volatility_10d", "volatility_20d", "true_range", "atr_14", "atr_position"),
    "volume": ("volume_vs_ma_5", "volume_vs_ma_10", "volume_vs_ma_20", "vpt", "obv", "obv_trend"),
    "year_range": ("distance_to_52w_high", "distance_to_52w_low"),
}

#: The default catalogue of version 0.1 on the New York calendar, and round the clock.
KNOWN: dict[str, dict[str, str]] = {
    "41912520e5bd5233": {
        "adx": "d9831e097445f687",
        "averages": "5ee152fb1de75bb8",
        "bbands": "d432b3b160bee1ff",
        "context": "214e3dc90c0d31fe",
        "macd": "d0d5a40e680455ea",
        "momentum": "fd33b93c7586f04f",
        "news": "c01e1ca663044eb8",
        "options": "ec58a766273edc03",
        "rsi": "fec253068a5b37b0",
        "stoch": "a02948e3341b8b87",
        "volatility": "6be5b1b4ed3407ce",
        "volume": "713c9665a7471852",
        "year_range": "d836ae5d8ad44074",
    },
    "7460927339ebf7e0": {
        "adx": "19e6ba499305afdf",
        "averages": "d45a3a2d1ee31850",
        "bbands": "1b4748e92049a41b",
        "context": "5392f397c78fbcde",
        "macd": "d306ee5417467b41",
        "momentum": "98fa6e94426a57f5",
        "news": "7c95e382032a344b",
        "options": "887e5535e47873ed",
        "rsi": "68670839bf972566",
        "stoch": "3a6a89073ff0a6d1",
        "volatility": "edde65fd322865c0",
        "volume": "a16713d17f9f5697",
        "year_range": "588640da0c10fbbb",
    },
}
