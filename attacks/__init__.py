"""The table of attacks. To add one: write the file, add its card, write its test."""

from simulator.world.cards import Card

CARDS: dict[str, Card] = {
    "hrec": Card(
        target="attacks.hrec:Hrec",
        summary="reconstruction from the parameter change and the public sample's Hessian",
        models=("ridge", "softmax", "svm"),
        needs=("public sample", "lambda", "n", "unlearning rule"),
        promises="reconstruction",
        source="Bertran et al., NeurIPS 2024",
    ),
    "unmix": Card(
        target="attacks.unmix:Unmix",
        summary="several records deleted at once, found jointly: their residuals are functions of themselves",
        models=("ridge", "softmax"),
        needs=("public sample", "lambda", "n", "unlearning rule"),
        promises="reconstruction",
    ),
    "sequence": Card(
        target="attacks.sequence:Sequence",
        summary="all deletions from one model jointly, in a chain or in branches: unmix, with a common operator",
        models=("ridge", "softmax"),
        needs=("public sample", "lambda", "n", "unlearning rule"),
        promises="reconstruction",
    ),
    "inversion": Card(
        target="attacks.inversion:Inversion",
        summary="search for the records whose gradient points along the parameter change",
        models=("mlp", "cnn", "resnet18"),
        needs=("public sample", "unlearning rule"),
        promises="reconstruction",
        source="Hu et al., IEEE S&P 2024",
    ),
    "class-score": Card(
        target="attacks.class_score:ClassScore",
        summary="which classes were deleted, by what happened to their rows of the last layer",
        needs=("classes", "public sample", "lambda", "n", "unlearning rule"),
        promises="labels",
        source="Zhou and Zhu, FUIA",
    ),
    "candidate-match": Card(
        target="attacks.candidate_match:CandidateMatch",
        summary="which of given records was deleted, by how much of each the change holds",
        needs=("challenge", "public sample", "lambda", "n", "unlearning rule"),
        promises="scores",
    ),
    "compound": Card(
        target="attacks.compound:Compound",
        summary="labels, then the public records that explain the change best, then inversion from there",
        models=("mlp", "cnn", "resnet18"),
        needs=("public sample", "unlearning rule"),
        promises="reconstruction",
    ),
    "raw-difference": Card(
        target="attacks.raw_difference:RawDifference",
        summary="baseline: the dominant direction of the parameter change itself",
        models=("ridge", "softmax", "svm", "mlp"),
        needs=("public sample",),
        promises="reconstruction",
    ),
    "average": Card(
        target="attacks.average:Average",
        summary="baseline: the mean of the public sample, whatever was released",
        needs=("public sample",),
        promises="reconstruction",
    ),
    "public-draw": Card(
        target="attacks.public_draw:PublicDraw",
        summary="baseline: random public records, what matching several answers to several records is worth by itself",
        needs=("public sample",),
        promises="reconstruction",
    ),
    "max-difference": Card(
        target="attacks.max_difference:MaxDifference",
        summary="baseline: the public record whose prediction changed most",
        needs=("public sample",),
        promises="reconstruction",
        source="Bertran et al., NeurIPS 2024",
    ),
}
