from ._analyze import Analyze as Analyze
from ._compare import Compare as Compare
from ._explore import Explore as Explore
from ._main import main as main
from ._plan import Plan as Plan
from ._reproduce import Reproduce as Reproduce
from ._sweep import Sweep as Sweep
