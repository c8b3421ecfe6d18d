"""What the eavesdropper hears and knows: the ``adversary`` section of a scenario, or of a variant."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from palimpsest.simulator.world.data.datasets import check_source
from palimpsest.simulator.world.specs import Frozen

Sees = Literal["releases", "broadcasts", "aggregate", "updates"]
SERVER_TIERS = ("aggregate", "updates")
"""Where the adversary is the server and hears what clients send; it knows who asked, and who took part."""

NotNegative = Annotated[float, Field(ge=0)]


class AdversaryConfig(Frozen):
    """What the eavesdropper hears and knows.

    Attributes:
        sees: releases, or all broadcasts (the working models of lbfgs too); or what an honest but curious server
            sees: ``updates``, every client's message, or under secure aggregation ``aggregate``, sums of cohorts.
        knows: granted beyond the default. Shipped attacks use labels; client and seeds are for others. ``rest``: all
            records that no deletion takes away, for audits: nobody else knows them.
        knows_bracket: whether it is told which releases enclose an unlearning; where not, it is handed each deletion's
            stream by itself, and looks for the place where it begins.
        missed_rounds: rounds of training, up to the last request, whose releases it did not hear.
        public_records: a subsample of the public sample for the attack alone; 0: all of it.
        public_classes: the classes that its sample has; empty: all.
        public_noise: deviation of Gaussian noise on every column of its sample, which is then cut to the box.
        public_source: another source in place of the public sample, with records of the same form that are nobody's
            here; empty: none.
        public_sites: natural clients, of that source or of the data's own, whose records are its sample; those of the
            scenario's own sites are left out; empty: any.
        n_factor: its idea of the number of records, as a multiple of the truth. Where the scenario gives l2, its idea
            of lambda goes with it, and the two errors cancel but for the residual's scale; give lambda to tell them
            apart.
        round_to: significant bits of the parameters that it reads (and that the transcript holds); 0: exact.
    """

    sees: Sees = "releases"
    knows: tuple[Literal["labels", "client", "seeds", "rest"], ...] = ()
    knows_bracket: bool = True
    missed_rounds: int = Field(default=0, ge=0)
    public_records: int = Field(default=0, ge=0)
    public_classes: tuple[Annotated[int, Field(ge=0)], ...] = ()
    public_noise: NotNegative = 0.0
    public_source: str = ""
    public_sites: tuple[int | str, ...] = ()
    n_factor: float = Field(default=1.0, gt=0)
    round_to: int = Field(default=0, ge=0, le=52)

    @field_validator("public_source")
    @classmethod
    def _loadable(cls, source: str) -> str:
        if source:
            check_source(source)
        return source

    @model_validator(mode="after")
    def _each_class_once(self) -> "AdversaryConfig":
        if len(set(self.public_classes)) < len(self.public_classes):
            raise ValueError(f"public_classes = {list(self.public_classes)} names a class twice")
        return self
