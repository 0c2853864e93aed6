"""What is done with a run, a file per verb: fit, resume, evaluate, compare, probe, generate, load.

find.py         a run by any of its names, and what lies in its folder
setup.py        what is settled before a run starts: devices, lengths, mistakes that can be told at once
batches.py      the text as the batches of training and of validation
trainer.py      the Lightning Trainer
ranks.py        the further processes of a training on this machine, started, watched, ended with it
unheard.py      signals that Python does not hear, because it waits for another process
job.py          what is made of a configuration before anything is written
callbacks.py    what happens beside the training: biases, curve; speed.py how fast it is
training_record.py   what is recorded of a step: loss, gradients, text, speed, memory
gradients.py    the gradients of a model as one number
divergence.py   a run whose loss is no number any more
pruning.py      a run that is asked after every validation whether it goes on
checkpoints.py  checkpoints that are whole or not there
record.py       what of a run goes into MLflow
weights.py      the weights of one model in another, whose encoding is not the same
another.py      another encoding on trained weights
initial.py      continued training: a run that starts from the weights of another
measured.py     a curve that was measured later, and its name in the record; beside.py several in one table
frames.py       curves as data frames
reporter.py     whom a run tells how far it is
"""
