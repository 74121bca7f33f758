"""A generative model as a scikit-learn estimator: codes in a Pipeline, a search over settings, densities of new rows.

python examples/sklearn_pipeline.py [--smoke]
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import genalloy as ga


def main(smoke: bool) -> None:
    steps = 15 if smoke else 300
    X, y = load_iris(return_X_y=True)

    # transform() gives the codes, so a VAE is a feature extractor
    classify = make_pipeline(StandardScaler(), ga.Alloy("vae", settings={"latent": 2}, steps=steps), LogisticRegression())
    print("accuracy from two codes, three folds:", cross_val_score(classify, X, y, cv=3).round(3))

    # score() is the mean log-density, so that a search picks the setting that describes held-out rows best
    search = GridSearchCV(
        ga.Alloy("maf", steps=steps), {"settings": [{"layers": 2}, {"layers": 5}]}, cv=KFold(2, shuffle=True, random_state=0)
    )
    print("best setting:", search.fit(X).best_params_, f"{search.best_score_:.3f} nats a row")

    fitted, held_out = train_test_split(X, random_state=0)
    flow = ga.Alloy("maf", steps=steps).fit(fitted)
    print("exact log-densities:", flow.score_samples(held_out[:3]).round(2))
    print("two flowers:", flow.sample(2).round(1).tolist())

    # a VAE has no exact log-density: score_samples says so, density gives the bound with its label
    vae = ga.Alloy("vae", steps=steps).fit(fitted)
    try:
        vae.score_samples(held_out)
    except ga.Unavailable as reason:
        print(reason)
    bound = vae.density(held_out)
    print(f"density: {bound.mean():.3f} nats, {bound.kind.value} ({bound.how})")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("--smoke" in sys.argv)
